"""Stage 2: format the audio of data folders in parallel, and write one dump folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.alignment import CTM
from harmonifuse_espnet.data.audio import find_audio
from harmonifuse_espnet.data.datadir import Utterance, read_datadir, write_datadir
from harmonifuse_espnet.data.provenance import MADE_FROM, format_sources
from harmonifuse_espnet.data.shards import (
    AudioOptions,
    FormatResult,
    Shard,
    Source,
    format_shard,
    load_up_to_date,
    make_shards,
    remove_stale,
)

_TABLES = ("wav.scp", "utt2num_samples", "dropped.tsv", "format.json", MADE_FROM, CTM)
_MAX_LISTED = 5  # unreadable sources in an error message


def format_audio(
    data_dirs: Sequence[str | Path], out_dir: str | Path, options: AudioOptions, nj: int = 1, skip_bad: bool = False
) -> str:
    """Format the audio of data folders into one dump folder; return a summary. An interrupted call is resumed.

    Args:
        data_dirs: Data folders to merge.
        out_dir: Dump folder.
        options: Output format, and filters of the sources.
        nj: Number of processes; the result does not depend on it.
        skip_bad: Whether to drop sources that cannot be read.

    Raises:
        InputError: if an option is out of range, an id is in two folders, a source cannot be read, or all utterances
            are dropped.
        OSError: if a data folder is incomplete, the dump folder cannot be written, or another process works in it.
    """
    _check_options(options, nj)
    out_dir = Path(out_dir)
    made_from = format_sources(data_dirs)  # before reading, in case a folder changes meanwhile
    utterances = _merge(data_dirs)
    if not skip_bad:
        _check_sources(utterances)
    with lock_folder(out_dir):
        results = _format_shards(list(utterances.values()), out_dir, options, nj)
        kept, dropped = _split_results(results, out_dir, skip_bad)
        _write_dump(out_dir, utterances, kept, dropped, options, made_from)
    return _summarize(out_dir, kept, dropped, options)


def _split_results(
    results: Sequence[FormatResult], out_dir: Path, skip_bad: bool
) -> tuple[list[FormatResult], list[FormatResult]]:
    """Return the utterances that are kept and those that are dropped."""
    bad = [result for result in results if result.bad]
    if bad and not skip_bad:
        raise InputError(_unusable_message(bad, len(results)))
    kept = [result for result in results if not result.reason]
    dropped = [result for result in results if result.reason]
    if not kept:
        raise InputError(
            f"{out_dir}: all {len(results)} utterances are dropped: {_count_reasons(dropped)}; change --min_duration "
            "or --max_duration"
        )
    return kept, dropped


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
                    "add a prefix to the ids of one corpus, or give each folder once"
                )
            merged[utterance.id], origin[utterance.id] = utterance, data_dir
    return merged


def _check_sources(utterances: Mapping[str, Utterance]) -> None:
    missing = []
    for utterance in utterances.values():
        try:
            find_audio(utterance.audio)
        except (InputError, MissingFileError) as error:
            missing.append(FormatResult(utterance.id, reason=f"unusable: {error}", bad=True))
    if missing:
        raise InputError(_unusable_message(missing, len(utterances)))


def _unusable_message(bad: Sequence[FormatResult], total: int) -> str:
    listed = "; ".join(f"'{result.id}': {result.reason.partition(': ')[2]}" for result in bad[:_MAX_LISTED])
    more = f"; and {len(bad) - _MAX_LISTED} more" if len(bad) > _MAX_LISTED else ""
    return (
        f"{len(bad)} of {total} utterances have unusable audio: {listed}{more}. "
        "Repair the files or correct the paths in wav.scp and run the command again, or drop them with --skip_bad true"
    )


def _format_shards(
    utterances: Sequence[Utterance], out_dir: Path, options: AudioOptions, nj: int
) -> list[FormatResult]:
    """Format the shards that are missing or out of date; return the results of all, sorted by id."""
    shards = make_shards(Source(each.id, each.audio, each.segment) for each in utterances)
    folder = out_dir / "data"
    loaded = [load_up_to_date(shard, folder, options) for shard in shards]
    results = [result for shard_results in loaded for result in shard_results or []]
    pending = [shard for shard, shard_results in zip(shards, loaded, strict=True) if shard_results is None]
    if pending:
        with writing(out_dir):  # remove the tables first: they mark a complete dump folder
            for name in _TABLES:
                (out_dir / name).unlink(missing_ok=True)
        count = sum(len(shard.sources) for shard in pending)
        results += progress(_run_parallel(pending, folder, options, nj), count, "files")
    remove_stale(shards, folder)
    return sorted(results, key=lambda result: result.id)


def _run_parallel(pending: Sequence[Shard], folder: Path, options: AudioOptions, nj: int) -> Iterator[FormatResult]:
    """Format shards in ``nj`` worker processes of one thread each, so that the samples do not depend on ``nj``."""
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
    os.environ["OMP_NUM_THREADS"] = "1"  # before the first resampling imports PyTorch
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent process is killed, so that this worker does not interfere with the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _write_dump(
    out_dir: Path,
    utterances: Mapping[str, Utterance],
    kept: Sequence[FormatResult],
    dropped: Sequence[FormatResult],
    options: AudioOptions,
    made_from: str,
) -> None:
    counts = {
        "utterances": len(kept),
        "seconds": _total_seconds(kept, options),
        "dropped": dict(Counter(map(_kind, dropped))),
        "clamped": sum(result.clamped > 0 for result in kept),
    }
    settings = {name: str(value) if value == float("inf") else value for name, value in asdict(options).items()}
    write_files(
        out_dir,
        {
            "utt2num_samples": "".join(f"{result.id} {result.num_samples}\n" for result in kept),
            "dropped.tsv": "".join(f"{result.id}\t{result.reason}\n" for result in dropped),
            MADE_FROM: made_from,
            "format.json": json.dumps({"options": settings, **counts}, indent=2) + "\n",
        },
    )
    locations = {result.id: str(out_dir / "data" / result.location) for result in kept}
    write_datadir(
        out_dir, [replace(utterances[key], audio=location, segment=None) for key, location in locations.items()]
    )


def _summarize(
    out_dir: Path, kept: Sequence[FormatResult], dropped: Sequence[FormatResult], options: AudioOptions
) -> str:
    total, seconds = len(kept) + len(dropped), _total_seconds(kept, options)
    summary = f"{out_dir}: {len(kept)} of {total} utterances, {seconds / 3600:.2f} h, "
    summary += f"{options.audio_format} at {options.sample_rate} Hz"
    if dropped:
        summary += f"\n  dropped {len(dropped)} (see dropped.tsv): {_count_reasons(dropped)}"
    clamped = [result.clamped for result in kept if result.clamped]
    if clamped:
        summary += f"\n  clamped {sum(clamped)} samples beyond full scale in {len(clamped)} utterances"
    return summary


def _total_seconds(kept: Sequence[FormatResult], options: AudioOptions) -> float:
    return sum(result.num_samples for result in kept) / options.sample_rate


def _count_reasons(dropped: Sequence[FormatResult]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(map(_kind, dropped)).most_common())


def _kind(dropped: FormatResult) -> str:
    return dropped.reason.partition(":")[0]
