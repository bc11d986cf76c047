"""Features dumped to Kaldi archives, in place of the waveform: log-mel frames, or the layers of a frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import kaldiio
import numpy as np
import torch

from harmonifuse_espnet.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.corpora.datadir import read_table
from harmonifuse_espnet.files import write_files, writing

SHARD_SIZE = 100


class FeatureExtractor(Protocol):
    """Samples (N,) at 16 kHz -> frames (T, width)."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Extract."""


class FbankExtractor:
    """Log-mel frames, 100 a second: (N,) -> (T, n_mels)."""

    def __init__(self, n_mels: int = 80) -> None:
        from harmonifuse_espnet.frontend import LogMel

        self.logmel = LogMel(n_mels)

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` (N,) -> (N // 160 + 1, n_mels)."""
        return self.logmel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))[0][0].numpy()


class SSLExtractor:
    """Chosen layers of a frozen encoder, side by side: (N,) -> (T, layers * D).

    Args:
        frontend_conf: Arguments of ``HuggingFaceFrontend``.
        layers: Numbers from 1 to the encoder's number of layers; None for all.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: if there is no such layer.
    """

    def __init__(
        self, frontend_conf: Mapping[str, Any], layers: Sequence[int] | None = None, device: str = "cpu"
    ) -> None:
        from harmonifuse_espnet.pretrained_encoder import HuggingFaceFrontend

        self.frontend = HuggingFaceFrontend(**frontend_conf).to(device).eval()
        self.layers = list(layers or range(1, self.frontend.num_layers + 1))
        self.device = device
        outside = [layer for layer in self.layers if not 1 <= layer <= self.frontend.num_layers]
        if outside:
            raise ValueError(f"layers {outside}: the encoder has layers 1 to {self.frontend.num_layers}")

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` (N,) -> (T, layers * D)."""
        speech = torch.from_numpy(samples)[None].to(self.device)
        states, _ = self.frontend(speech, torch.tensor([len(samples)], device=self.device))
        chosen = {layer: state[0] for layer, state in enumerate(states, start=1) if layer in self.layers}
        return torch.cat([chosen[layer] for layer in self.layers], dim=-1).float().cpu().numpy()


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
