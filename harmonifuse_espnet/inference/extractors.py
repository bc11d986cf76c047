"""Feature extractors of stage 3: log-mel frames, or hidden states of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.data.features import FeatureExtractor, write_feature_folder
from harmonifuse_espnet.data.logmel import LogMel
from harmonifuse_espnet.data.provenance import check_sources
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder

CONFIG_KEYS = {"fbank": {"n_mels"}, "ssl": {"frontend_conf", "layers"}}  # feats_type -> keys of its configuration


class FbankExtractor:
    """Log-mel frames, 100 a second: (N,) -> (T, n_mels)."""

    def __init__(self, n_mels: int = 80) -> None:
        self.logmel = LogMel(n_mels)

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames (N // 160 + 1, n_mels) of ``samples`` (N,)."""
        return self.logmel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))[0][0].numpy()


class SSLExtractor:
    """Hidden states of selected layers of a frozen encoder, concatenated: (N,) -> (T, layers * D).

    Args:
        frontend_conf: Arguments of ``SelfSupervisedEncoder``.
        layers: Layers to concatenate, numbered from 1; None for all.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: if a layer does not exist.
    """

    def __init__(
        self, frontend_conf: Mapping[str, Any], layers: Sequence[int] | None = None, device: str = "cpu"
    ) -> None:
        self.frontend = SelfSupervisedEncoder(**frontend_conf).to(device).eval()
        self.layers = list(layers or range(1, self.frontend.num_layers + 1))
        self.device = device
        outside = [layer for layer in self.layers if not 1 <= layer <= self.frontend.num_layers]
        if outside:
            raise InputError(
                f"layers {outside}: the encoder has layers 1 to {self.frontend.num_layers}; correct 'layers'"
            )

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames (T, layers * D) of ``samples`` (N,)."""
        speech = torch.from_numpy(samples)[None].to(self.device)
        states, _ = self.frontend(speech, torch.tensor([len(samples)], device=self.device))
        selected = {layer: state[0] for layer, state in enumerate(states, start=1) if layer in self.layers}
        return torch.cat([selected[layer] for layer in self.layers], dim=-1).float().cpu().numpy()


def extract_features(feats_type: str, data_dir: Path, out_dir: Path, conf: Mapping[str, Any], device: str) -> str:
    """Write the features of a dump folder to a feature folder; return a summary. An interrupted call is resumed.

    Args:
        feats_type: ``fbank`` or ``ssl``.
        data_dir: Dump folder of stage 2.
        out_dir: Feature folder to write.
        conf: Arguments of :class:`FbankExtractor` or :class:`SSLExtractor`.
        device: ``cpu`` or ``cuda``, for ``ssl``.

    Raises:
        InputError: if an option in ``conf`` is unknown, or a required one is missing.
        MissingFileError: if the dump folder of stage 2 is incomplete.
        AccessError: if ``out_dir`` cannot be written, or another process works in it.
    """
    if set(conf) - CONFIG_KEYS[feats_type] or (feats_type == "ssl" and "frontend_conf" not in conf):
        raise InputError(f"--config for {feats_type} has {sorted(conf)}, expected {sorted(CONFIG_KEYS[feats_type])}")
    check_sources(data_dir, "run stage 2 again: ./run.sh --stage 2")
    extract: FeatureExtractor = FbankExtractor(**conf) if feats_type == "fbank" else SSLExtractor(**conf, device=device)
    with lock_folder(out_dir):
        count = write_feature_folder(data_dir, out_dir, extract, {"feats_type": feats_type, **conf})
    return f"{out_dir}: {feats_type} features of {count} utterances"
