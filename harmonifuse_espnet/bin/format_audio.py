"""Stage 2: bring the audio of one or more data folders into one form, in one dump folder.

Every source becomes 16-bit mono at --sample_rate: FLAC, wav, or Kaldi archives (FLAC inside, ESPnet's type
kaldi_ark); with `original`, files of that rate are checked and stay where they are. 16-bit sources of that rate keep
every sample; other rates are resampled by torchaudio, and samples that overshoot full scale are clamped and counted in
the summary. The dump folder gets wav.scp, text, utt2spk, spk2utt, utt2task, utt2num_samples, dropped.tsv (id, tab,
reason), format.json (options and counts) and the audio in data/.

An interrupted call is continued by calling again: only what is missing, incomplete or changed (options, sources) is
done.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.alignment import CTM
from harmonifuse_espnet.data.audio import FORMATS, file_of
from harmonifuse_espnet.data.datadir import Utterance, read_datadir, write_datadir
from harmonifuse_espnet.data.shards import (
    AudioOptions,
    Record,
    Shard,
    finished,
    format_shard,
    make_shards,
    remove_others,
)

_TABLES = ("wav.scp", "utt2num_samples", "dropped.tsv", "format.json", CTM)
_MIN_HELP = "drop shorter sources and digital silence; 0 keeps both, for test sets (default: 0.1)"
_MAX_HELP = "drop longer sources; inf keeps all, for test sets (default: 30)"
_SHOWN = 5  # unusable sources that an error names


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data_dirs", nargs="+", metavar="data_dir", help="data folder(s) to merge; their ids must differ")
    add("--out_dir", required=True, help="dump folder to write; wav.scp refers to it as it is given here")
    add(
        "--audio_format",
        choices=(*FORMATS, "kaldi_ark", "original"),
        default="flac",
        help="form of the audio (default: flac)",
    )
    add("--sample_rate", type=int, default=16000, help="of the output, in hertz (default: 16000)")
    add("--expected_sample_rate", type=int, help="fail where a source has another rate (default: resample any)")
    add("--min_duration", type=float, default=0.1, metavar="SECONDS", help=_MIN_HELP)
    add("--max_duration", type=float, default=30.0, metavar="SECONDS", help=_MAX_HELP)
    add("--skip_bad", type=boolean, default=False, metavar="BOOL", help="drop unusable sources (default: false, fail)")
    add("--nj", type=int, default=1, help="number of processes (default: 1); the result does not depend on it")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        options = AudioOptions(
            args.audio_format, args.sample_rate, args.min_duration, args.max_duration, args.expected_sample_rate
        )
        print(format_audio(args.data_dirs, args.out_dir, options, args.nj, args.skip_bad))


def format_audio(
    data_dirs: Sequence[str | Path], out_dir: str | Path, options: AudioOptions, nj: int = 1, skip_bad: bool = False
) -> str:
    """Format the audio of data folders into one dump folder; returns the summary.

    Raises:
        ValueError: if an option is out of range, an id is in two folders, a source cannot be used, or nothing is left.
        OSError: if a data folder is incomplete or the dump folder cannot be written.
    """
    _check_options(options, nj)
    out_dir = Path(out_dir)
    utterances = _merge(data_dirs)
    if not skip_bad:
        _check_sources(utterances)
    shards = make_shards((utterance.id, utterance.audio) for utterance in utterances.values())
    records = _format_shards(shards, out_dir, options, nj)
    bad = [record for record in records if record.bad]
    if bad and not skip_bad:
        raise InputError(_unusable(bad, len(records)))
    return _write_dump(out_dir, utterances, records, options)


def _check_options(options: AudioOptions, nj: int) -> None:
    for name, value in (("sample_rate", options.sample_rate), ("nj", nj)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    if not 0 <= options.min_duration < options.max_duration:
        raise InputError(
            f"--min_duration {options.min_duration:g} must be at least 0, "
            f"and below --max_duration {options.max_duration:g}"
        )


def _merge(data_dirs: Sequence[str | Path]) -> dict[str, Utterance]:
    merged: dict[str, Utterance] = {}
    origin: dict[str, str | Path] = {}
    for data_dir in data_dirs:
        for utterance in read_datadir(data_dir):
            if utterance.id in merged:
                raise InputError(
                    f"utterance '{utterance.id}' is in {origin[utterance.id]} and in {data_dir}; "
                    "give one of the corpora a prefix, or name each folder once"
                )
            merged[utterance.id], origin[utterance.id] = utterance, data_dir
    return merged


def _check_sources(utterances: dict[str, Utterance]) -> None:
    missing = [
        Record(utterance.id, reason=f"unusable: {utterance.audio}: no such audio file", bad=True)
        for utterance in utterances.values()
        if not file_of(utterance.audio).is_file()
    ]
    if missing:
        raise InputError(_unusable(missing, len(utterances)))


def _unusable(bad: list[Record], total: int) -> str:
    shown = "; ".join(f"'{record.id}': {record.reason.partition(': ')[2]}" for record in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return (
        f"{len(bad)} of {total} utterances have audio that cannot be used: {shown}{more}. "
        "Repair the files or the paths in wav.scp and call again, or leave them out with --skip_bad true"
    )


def _format_shards(shards: list[Shard], out_dir: Path, options: AudioOptions, nj: int) -> list[Record]:
    folder = out_dir / "data"
    done = [finished(shard, folder, options) for shard in shards]
    records = [record for finished_records in done for record in finished_records or []]
    pending = [shard for shard, finished_records in zip(shards, done, strict=True) if finished_records is None]
    if pending:
        with writing(out_dir):  # tables say that the dump folder is complete, so they go first
            for name in _TABLES:
                (out_dir / name).unlink(missing_ok=True)
        count = sum(len(shard.sources) for shard in pending)
        records += progress(_run_parallel(pending, folder, options, nj), count, "files")
    remove_others(shards, folder)
    return sorted(records, key=lambda record: record.id)


def _run_parallel(pending: list[Shard], folder: Path, options: AudioOptions, nj: int) -> Iterator[Record]:
    """Format shards in processes, whatever ``nj`` is: one thread each makes the samples the same everywhere."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(nj, len(pending)), context, initializer=_start_worker) as pool:
        futures = [pool.submit(format_shard, shard, folder, options) for shard in pending]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # torch is imported later, when there is something to resample
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed command must not leave processes that go on writing while it is called again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _write_dump(out_dir: Path, utterances: dict[str, Utterance], records: list[Record], options: AudioOptions) -> str:
    kept = [record for record in records if not record.reason]
    dropped = [record for record in records if record.reason]
    reasons = Counter(record.reason.partition(":")[0] for record in dropped)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    if not kept:
        raise InputError(f"{out_dir}: nothing is left of {len(records)} utterances: {why}; see the duration options")
    seconds = sum(record.num_samples for record in kept) / options.sample_rate
    clamped = [record for record in kept if record.clamped]
    counts = {"utterances": len(kept), "seconds": seconds, "dropped": dict(reasons), "clamped": len(clamped)}
    settings = {name: str(value) if value == float("inf") else value for name, value in asdict(options).items()}
    write_files(
        out_dir,
        {
            "utt2num_samples": "".join(f"{record.id} {record.num_samples}\n" for record in kept),
            "dropped.tsv": "".join(f"{record.id}\t{record.reason}\n" for record in dropped),
            "format.json": json.dumps({"options": settings, **counts}, indent=2) + "\n",
        },
    )
    locations = {record.id: str(out_dir / "data" / record.location) for record in kept}
    write_datadir(out_dir, [replace(utterances[key], audio=location) for key, location in locations.items()])
    summary = f"{out_dir}: {len(kept)} of {len(records)} utterances, {seconds / 3600:.2f} h, "
    summary += f"{options.audio_format} at {options.sample_rate} Hz"
    if dropped:
        summary += f"\n  dropped {len(dropped)} (see dropped.tsv): {why}"
    if clamped:
        samples = sum(record.clamped for record in clamped)
        summary += f"\n  clamped {samples} samples beyond full scale in {len(clamped)} utterances"
    return summary


if __name__ == "__main__":
    main()
