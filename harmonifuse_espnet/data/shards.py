"""Formatting audio in shards: the unit of parallel work and of resuming.

A shard is a hundred utterances and the folder ``format.<n>/`` with their audio and ``shard.json``, which says what was
done, from which sources and with which options. The folder appears under its name only when complete, so whatever was
interrupted is done again, and whatever is there and still fits is not. How utterances fall into shards depends on their
ids alone: the result does not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import writing
from harmonifuse_espnet.data.audio import ark_entry, encode, file_of, read_audio, resample, to_16_bit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARD_SIZE = 100
_VERSION = 1


@dataclass(frozen=True)
class AudioOptions:
    """How audio is formatted.

    Attributes:
        audio_format: ``flac``, ``wav``, ``kaldi_ark`` (one archive a shard, FLAC inside), or ``original``: files of the
            output's rate are checked and stay where they are, the others become FLAC.
        sample_rate: Of the output, in hertz.
        min_duration: In seconds; shorter sources are dropped. Above 0, digital silence is dropped too.
        max_duration: In seconds; longer sources are dropped.
        expected_sample_rate: The rate in hertz that every source must have, or None if any is resampled.
    """

    audio_format: str
    sample_rate: int
    min_duration: float
    max_duration: float
    expected_sample_rate: int | None = None


@dataclass(frozen=True)
class Record:
    """What became of an utterance.

    Attributes:
        id: The utterance.
        location: Its audio, ``file`` or ``file.ark:offset``, below the shards' folder; the absolute path of an original
            that stays where it is; empty if it was dropped.
        num_samples: Length in samples at the output's rate.
        clamped: How many samples were beyond full scale after resampling.
        reason: Why it was dropped, ``kind: details``; empty if it was kept.
        bad: Whether it was dropped because its source cannot be used, not by a filter.
    """

    id: str
    location: str = ""
    num_samples: int = 0
    clamped: int = 0
    reason: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Shard:
    """Some utterances (id and source location, as in ``wav.scp``) that are formatted together."""

    name: str
    sources: tuple[tuple[str, str], ...]

    def fingerprint(self, options: AudioOptions) -> str:
        """Changes when an option, a source's path, size or time of change does."""
        stats = [(utterance, source, *_stat(source)) for utterance, source in self.sources]
        return hashlib.sha256(json.dumps([_VERSION, asdict(options), stats]).encode()).hexdigest()


def make_shards(sources: Iterable[tuple[str, str]]) -> list[Shard]:
    """Cut the sources, sorted by id, into shards."""
    rows = sorted(sources)
    starts = range(0, len(rows), SHARD_SIZE)
    return [Shard(f"format.{n}", tuple(rows[at : at + SHARD_SIZE])) for n, at in enumerate(starts, start=1)]


def finished(shard: Shard, folder: Path, options: AudioOptions) -> list[Record] | None:
    """The records of a shard that is already formatted with these options from these sources, else None.

    A shard with unusable sources counts as unfinished: they are tried again.
    """
    try:
        state = json.loads((folder / shard.name / "shard.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # not begun; or its disk lost power before the file was there
        return None
    if state["fingerprint"] != shard.fingerprint(options):
        return None
    for name, size in state["files"].items():
        path = folder / shard.name / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    records = [Record(**record) for record in state["records"]]
    return None if any(record.bad for record in records) else records


def format_shard(shard: Shard, folder: Path, options: AudioOptions) -> list[Record]:
    """Format a shard's audio into ``folder/<shard's name>/``.

    Returns:
        One record an utterance, in the shard's order. Sources that cannot be used are records with ``bad`` set.

    Raises:
        OSError: if the folder cannot be written; what was written of this shard is removed.
    """
    fingerprint = shard.fingerprint(options)  # before reading: a source that changes meanwhile is done again next time
    temporary = folder / f"{shard.name}.tmp"
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            records = [_format_one(utterance, source, temporary, options) for utterance, source in shard.sources]
            state = {
                "fingerprint": fingerprint,
                "files": {path.name: path.stat().st_size for path in sorted(temporary.iterdir())},
                "records": [asdict(record) for record in records],
            }
            (temporary / "shard.json").write_text(json.dumps(state, indent=1, ensure_ascii=False), encoding="utf-8")
            if (folder / shard.name).exists():
                shutil.rmtree(folder / shard.name)
            temporary.rename(folder / shard.name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return records


def remove_others(shards: Sequence[Shard], folder: Path) -> None:
    """Remove what earlier calls with more utterances, or interrupted ones, left in the shards' folder."""
    names = {shard.name for shard in shards}
    with writing(folder):
        for path in folder.glob("format.*"):
            if path.is_dir() and path.name not in names:
                shutil.rmtree(path)


def _format_one(utterance: str, source: str, temporary: Path, options: AudioOptions) -> Record:
    try:
        samples, rate = read_audio(source)
        if options.expected_sample_rate not in (None, rate):
            expected = options.expected_sample_rate
            raise InputError(f"{source}: the sampling rate is {rate} Hz where {expected} Hz are expected")
    except (ValueError, OSError) as error:
        return Record(utterance, reason=f"unusable: {error}", bad=True)
    reason = _filter(samples, rate, options)
    if reason:
        return Record(utterance, reason=reason)
    if options.audio_format == "original" and rate == options.sample_rate and file_of(source) == Path(source):
        return Record(utterance, os.path.abspath(source), len(samples))
    output, clamped = to_16_bit(resample(samples, rate, options.sample_rate))
    name = _store(utterance, output, temporary, options)
    return Record(utterance, f"{temporary.stem}/{name}", len(output), clamped)


def _filter(samples: NDArray[np.float32], rate: int, options: AudioOptions) -> str:
    seconds = len(samples) / rate
    if seconds < options.min_duration:
        return f"shorter than {options.min_duration:g} s: {seconds:.3f} s"
    if seconds > options.max_duration:
        return f"longer than {options.max_duration:g} s: {seconds:.3f} s"
    if options.min_duration > 0 and not samples.any():
        return f"silence: all {len(samples)} samples are 0"
    return ""


def _store(utterance: str, samples: NDArray[np.int16], folder: Path, options: AudioOptions) -> str:
    if options.audio_format != "kaldi_ark":
        form = "flac" if options.audio_format == "original" else options.audio_format
        (folder / f"{utterance}.{form}").write_bytes(encode(samples, options.sample_rate, form))
        return f"{utterance}.{form}"
    entry, offset = ark_entry(utterance, samples, options.sample_rate)
    with (folder / "audio.ark").open("ab") as ark:
        start = ark.tell()
        ark.write(entry)
    return f"audio.ark:{start + offset}"


def _stat(source: str) -> tuple[int, int]:
    path = file_of(source)
    if not path.is_file():
        return -1, -1
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
