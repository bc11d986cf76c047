"""Features dumped to Kaldi archives, in place of the waveform: log-mel frames, or the layers of a frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import kaldiio
import numpy as np

from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.data.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.data.datadir import read_table

SHARD_SIZE = 100


class FeatureExtractor(Protocol):
    """Samples (N,) at 16 kHz -> frames (T, width)."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Extract."""


def dump_features(
    wav_scp: Mapping[str, str], extract: FeatureExtractor, folder: Path, identity: Mapping[str, Any]
) -> Iterator[dict[str, tuple[str, int]]]:
    """Dump features by shards of utterances; shards that are there from the same call are taken as they are.

    Args:
        wav_scp: Utterance -> location of 16 kHz audio.
        extract: Samples -> frames.
        folder: Where ``feats.<n>.ark`` and its index ``feats.<n>.json`` go.
        identity: What the features depend on; a shard made with another one is made again.

    Yields:
        For each shard, utterance -> (location in the archive, number of frames).

    Raises:
        OSError: if the folder cannot be written.
    """
    utterances = sorted(wav_scp)
    for number, start in enumerate(range(0, len(utterances), SHARD_SIZE), start=1):
        chosen = utterances[start : start + SHARD_SIZE]
        ark, index = folder / f"feats.{number}.ark", folder / f"feats.{number}.json"
        made_with = {**identity, "sources": [[key, wav_scp[key]] for key in chosen]}
        known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() and ark.is_file() else {}
        if known.get("made_with") != made_with:
            with writing(folder):
                index.unlink(missing_ok=True)
            known = {"made_with": made_with, "entries": _write_ark(ark, chosen, wav_scp, extract)}
            write_files(folder, {index.name: json.dumps(known)})
        yield {key: (location, frames) for key, (location, frames) in known["entries"].items()}


def _write_ark(
    ark: Path, utterances: Sequence[str], wav_scp: Mapping[str, str], extract: FeatureExtractor
) -> dict[str, tuple[str, int]]:
    features = {key: np.ascontiguousarray(extract(read_audio(wav_scp[key], SAMPLE_RATE)[0])) for key in utterances}
    scp = ark.with_suffix(".scp")
    with writing(ark.parent):
        ark.parent.mkdir(parents=True, exist_ok=True)
        kaldiio.save_ark(str(ark), features, scp=str(scp))
        locations = read_table(scp)
        scp.unlink()
    return {key: (locations[key], len(frames)) for key, frames in features.items()}
