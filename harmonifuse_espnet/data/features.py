"""Features dumped to Kaldi archives instead of audio: log-mel frames, or hidden states of a frozen encoder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import kaldiio
import numpy as np

from harmonifuse_espnet.common.errors import UserError
from harmonifuse_espnet.common.files import atomic_path, write_files, writing
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.audio import SAMPLE_RATE, audio_stat, read_audio
from harmonifuse_espnet.data.datadir import format_table, read_table
from harmonifuse_espnet.data.provenance import MADE_FROM, format_sources

SHARD_SIZE = 100  # utterances
DUMP_TABLES = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2task", "utt2num_samples")


class FeatureExtractor(Protocol):
    """A function of samples (N,) at 16 kHz that returns frames (T, width)."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Extract the features."""


def write_feature_folder(data_dir: Path, out_dir: Path, extract: FeatureExtractor, settings: Mapping[str, Any]) -> int:
    """Extract the features of all utterances of a dump folder; return the number of utterances.

    Args:
        data_dir: Dump folder of stage 2.
        out_dir: Feature folder to write, with the archives in ``out_dir/data``.
        extract: Feature extractor.
        settings: See :func:`dump_features`.

    Raises:
        MissingFileError: if one of ``DUMP_TABLES`` is missing.
        AccessError: if the folder cannot be written.
    """
    made_from = format_sources([data_dir])  # before reading, in case it changes meanwhile
    tables = {name: read_table(data_dir / name) for name in DUMP_TABLES}
    wav_scp, entries = tables["wav.scp"], {}
    shards = dump_features(wav_scp, extract, out_dir / "data", settings)
    for shard in progress(shards, math.ceil(len(wav_scp) / SHARD_SIZE), "shards"):
        entries.update(shard)
    contents = {name: format_table(table.items()) for name, table in tables.items() if name != "wav.scp"}
    contents[MADE_FROM] = made_from
    contents["utt2num_frames"] = format_table((key, str(frames)) for key, (_, frames) in sorted(entries.items()))
    contents["feats.scp"] = format_table((key, location) for key, (location, _) in sorted(entries.items()))
    write_files(out_dir, contents)
    return len(entries)


def dump_features(
    wav_scp: Mapping[str, str], extract: FeatureExtractor, folder: Path, settings: Mapping[str, Any]
) -> Iterator[dict[str, tuple[str, int]]]:
    """Dump features in shards of ``SHARD_SIZE`` utterances; resumable, since up-to-date shards are kept.

    Args:
        wav_scp: Utterance id -> location of 16 kHz audio.
        extract: Feature extractor.
        folder: Output folder of ``feats.<n>.ark`` and its index ``feats.<n>.json``.
        settings: Everything that determines the features; a shard with other settings or sources is rewritten.

    Yields:
        For each shard, utterance id -> (location in the archive, number of frames).

    Raises:
        AccessError: if the folder cannot be written.
    """
    utterances = sorted(wav_scp)
    for number, start in enumerate(range(0, len(utterances), SHARD_SIZE), start=1):
        shard = utterances[start : start + SHARD_SIZE]
        ark, index = folder / f"feats.{number}.ark", folder / f"feats.{number}.json"
        made_with = {**settings, "sources": [[key, wav_scp[key], *audio_stat(wav_scp[key])] for key in shard]}
        entries = load_entries(ark, index, made_with)
        if entries is None:
            with writing(folder):
                index.unlink(missing_ok=True)
            entries = _write_ark(ark, shard, wav_scp, extract)
            write_files(folder, {index.name: json.dumps({"made_with": made_with, "entries": entries})})
        yield entries


def load_entries(ark: Path, index: Path, made_with: Mapping[str, Any]) -> dict[str, tuple[str, int]] | None:
    """Return the entries of an archive from its index; None if they are not up to date, or the index is damaged.

    Args:
        ark: Archive of a shard.
        index: Its index.
        made_with: Settings and sources, which have the ids of the shard's utterances.
    """
    try:
        known = read_json(index, "") if ark.is_file() else None
        if known is None or known["made_with"] != made_with:
            return None
        entries = {key: (location, frames) for key, (location, frames) in known["entries"].items()}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):  # not started, or damaged by a power failure
        return None
    are_valid = all(isinstance(location, str) and type(frames) is int for location, frames in entries.values())
    return entries if are_valid and list(entries) == [source[0] for source in made_with["sources"]] else None


def _write_ark(
    ark: Path, utterances: Sequence[str], wav_scp: Mapping[str, str], extract: FeatureExtractor
) -> dict[str, tuple[str, int]]:
    features = {key: np.ascontiguousarray(extract(read_audio(wav_scp[key], SAMPLE_RATE)[0])) for key in utterances}
    offsets = {}
    with atomic_path(ark) as temporary, temporary.open("wb") as file:
        for key, frames in features.items():
            offsets[key] = file.tell() + len(key.encode()) + 1
            kaldiio.save_ark(file, {key: frames})
    return {key: (f"{ark}:{offsets[key]}", len(frames)) for key, frames in features.items()}
