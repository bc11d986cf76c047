"""One shard of formatted audio: the unit of parallel work and of resuming.

A shard has up to a hundred utterances. Its folder ``format.<n>/`` contains the audio and ``shard.json`` with the
options, sources and results, and is written under a temporary name first: interrupted shards are formatted again,
up-to-date ones are kept. The assignment of utterances to shards depends only on their ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harmonifuse_espnet.common.errors import InputError, UserError
from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.data.audio import (
    ark_entry,
    audio_file,
    audio_stat,
    encode_audio,
    read_audio,
    resample,
    to_16_bit,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARD_SIZE = 100  # utterances
_VERSION = 1  # of shard.json and the audio formatting
_MAX_OVERSHOOT_SECONDS = 0.5  # of a segment beyond the end of its recording


@dataclass(frozen=True)
class AudioOptions:
    """Output format, and filters of the sources.

    Attributes:
        audio_format: ``flac``, ``wav``, ``kaldi_ark`` (one archive per shard, with FLAC inside), or ``original``: files
            with the output's sampling rate are checked and used in place, others become FLAC.
        sample_rate: Sampling rate of the output in hertz.
        min_duration: Minimum duration in seconds. If it is above 0, digital silence is dropped as well.
        max_duration: Maximum duration in seconds.
        expected_sample_rate: Sampling rate in hertz that every source must have; None to resample any rate.
    """

    audio_format: str
    sample_rate: int
    min_duration: float
    max_duration: float
    expected_sample_rate: int | None = None


@dataclass(frozen=True)
class FormatResult:
    """Result of formatting one utterance.

    Attributes:
        id: Utterance id.
        location: ``file`` or ``file.ark:offset`` relative to the folder of the shards, or the absolute path of an
            original file; empty if the utterance was dropped.
        num_samples: Length in samples at the output's sampling rate.
        clamped: Number of samples that were beyond full scale after resampling.
        reason: Reason for dropping the utterance, ``kind: details``; empty if it was kept.
        bad: Whether the source cannot be read.
    """

    id: str
    location: str = ""
    num_samples: int = 0
    clamped: int = 0
    reason: str = ""
    bad: bool = False


class Source(NamedTuple):
    """The audio of one utterance; ``location`` is as in ``wav.scp``, and ``segment`` as in ``Utterance``."""

    id: str
    location: str
    segment: tuple[float, float] | None = None


@dataclass(frozen=True)
class Shard:
    """Utterances that are formatted together."""

    name: str
    sources: tuple[Source, ...]

    def fingerprint(self, options: AudioOptions) -> str:
        """Return a hash of the options and of each source's path, size, modification time and segment."""
        stats = [(each.id, each.location, *audio_stat(each.location), *(each.segment or ())) for each in self.sources]
        return hashlib.sha256(json.dumps([_VERSION, asdict(options), stats]).encode()).hexdigest()


def make_shards(sources: Iterable[Source]) -> list[Shard]:
    """Sort the sources by id and split them into shards."""
    rows = sorted(sources)
    starts = range(0, len(rows), SHARD_SIZE)
    return [Shard(f"format.{n}", tuple(rows[at : at + SHARD_SIZE])) for n, at in enumerate(starts, start=1)]


def load_up_to_date(shard: Shard, folder: Path, options: AudioOptions) -> list[FormatResult] | None:
    """Return the results of a shard if it is up to date with its sources and ``options``, else None.

    A shard with unreadable sources is never up to date.
    """
    try:
        state = read_json(folder / shard.name / "shard.json", "")
        if state["fingerprint"] != shard.fingerprint(options):
            return None
        sizes = {folder / shard.name / name: size for name, size in state["files"].items()}
        results = [FormatResult(**record) for record in state["records"]]
    except (UserError, KeyError, TypeError, AttributeError):  # not started, or damaged by a power failure
        return None
    is_complete = all(os.path.isfile(path) and os.path.getsize(path) == size for path, size in sizes.items())
    ids = [source.id for source in shard.sources]
    if not is_complete or [result.id for result in results] != ids or not all(map(_is_valid, results)):
        return None
    return None if any(result.bad for result in results) else results


def _is_valid(result: FormatResult) -> bool:
    """Whether a result from a file has the right types."""
    texts, numbers = (result.location, result.reason), (result.num_samples, result.clamped)
    return all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)


def format_shard(shard: Shard, folder: Path, options: AudioOptions) -> list[FormatResult]:
    """Format the audio of a shard into ``folder/<name of the shard>/``; return one result for each utterance.

    Raises:
        AccessError: if the folder cannot be written; the incomplete shard is removed.
    """
    fingerprint = shard.fingerprint(options)  # before reading, in case a source changes meanwhile
    temporary = folder / f"{shard.name}.tmp"
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            results = [_format_one(source, temporary, options) for source in shard.sources]
            state = {
                "fingerprint": fingerprint,
                "files": {path.name: path.stat().st_size for path in sorted(temporary.iterdir())},
                "records": [asdict(result) for result in results],
            }
            write_files(temporary, {"shard.json": json.dumps(state, indent=1, ensure_ascii=False)})
            if (folder / shard.name).exists():
                shutil.rmtree(folder / shard.name)
            temporary.rename(folder / shard.name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return results


def remove_stale(shards: Sequence[Shard], folder: Path) -> None:
    """Remove the shards of earlier calls, and incomplete ones."""
    names = {shard.name for shard in shards}
    with writing(folder):
        for path in folder.glob("format.*"):
            if path.is_dir() and path.name not in names:
                shutil.rmtree(path)


def _format_one(source: Source, temporary: Path, options: AudioOptions) -> FormatResult:
    utterance, location = source.id, source.location
    try:
        samples, rate = (
            _read_segment(location, *source.segment) if source.segment else read_audio(location, verify=True)
        )
        expected = options.expected_sample_rate
        if expected not in (None, rate):
            raise InputError(f"{location}: sampling rate {rate} Hz, expected {expected} Hz")
    except (ValueError, OSError) as error:
        return FormatResult(utterance, reason=f"unusable: {error}", bad=True)
    reason = _drop_reason(samples, rate, options)
    if reason:
        return FormatResult(utterance, reason=reason)
    is_whole_file = source.segment is None and audio_file(location) == Path(location)
    if options.audio_format == "original" and rate == options.sample_rate and is_whole_file:
        return FormatResult(utterance, os.path.abspath(location), len(samples))
    output, clamped = to_16_bit(resample(samples, rate, options.sample_rate))
    name = _store(utterance, output, temporary, options)
    return FormatResult(utterance, f"{temporary.stem}/{name}", len(output), clamped)


def _read_segment(location: str, start: float, end: float) -> tuple[NDArray[np.float32], int]:
    """Read a segment from ``start`` to ``end`` in seconds, as Kaldi's extract-segments does.

    Raises:
        InputError: if the segment is more than ``_MAX_OVERSHOOT_SECONDS`` longer than the recording.
    """
    samples, rate = _read_recording(location)
    seconds = len(samples) / rate
    if start >= seconds or end > seconds + _MAX_OVERSHOOT_SECONDS:
        raise InputError(
            f"{location}: the segment from {start:g} s to {end:g} s is outside the recording of {seconds:.3f} s; "
            "correct segments"
        )
    return samples[int(start * rate) : None if end == -1 else int(end * rate)], rate


@lru_cache(maxsize=1)
def _read_recording(location: str) -> tuple[NDArray[np.float32], int]:
    """Read a recording and keep it: the segments of a recording follow each other."""
    return read_audio(location, verify=True)


def _drop_reason(samples: NDArray[np.float32], rate: int, options: AudioOptions) -> str:
    """Return why the filters drop this audio; empty if they keep it."""
    seconds = len(samples) / rate
    if seconds < options.min_duration:
        return f"shorter than {options.min_duration:g} s: {seconds:.3f} s"
    if seconds > options.max_duration:
        return f"longer than {options.max_duration:g} s: {seconds:.3f} s"
    if options.min_duration > 0 and not samples.any():
        return f"silence: all {len(samples)} samples are 0"
    return ""


def _store(utterance: str, samples: NDArray[np.int16], folder: Path, options: AudioOptions) -> str:
    """Write one utterance; return its location relative to the folder of the shard."""
    if options.audio_format != "kaldi_ark":
        audio_format = "flac" if options.audio_format == "original" else options.audio_format
        name = f"{utterance}.{audio_format}"
        (folder / name).write_bytes(encode_audio(samples, options.sample_rate, audio_format))
        return name
    entry, offset = ark_entry(utterance, samples, options.sample_rate)
    with (folder / "audio.ark").open("ab") as ark:
        start = ark.tell()
        ark.write(entry)
    return f"audio.ark:{start + offset}"
