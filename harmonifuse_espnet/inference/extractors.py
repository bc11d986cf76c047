"""Feature extractors of stage 3: log-mel frames, or the layers of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.logmel import LogMel
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder


class FbankExtractor:
    """Log-mel frames, 100 a second: (N,) -> (T, n_mels)."""

    def __init__(self, n_mels: int = 80) -> None:

        self.logmel = LogMel(n_mels)

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` (N,) -> (N // 160 + 1, n_mels)."""
        return self.logmel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))[0][0].numpy()


class SSLExtractor:
    """Chosen layers of a frozen encoder, side by side: (N,) -> (T, layers * D).

    Args:
        frontend_conf: Arguments of ``SelfSupervisedEncoder``.
        layers: Numbers from 1 to the encoder's number of layers; None for all.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: if there is no such layer.
    """

    def __init__(
        self, frontend_conf: Mapping[str, Any], layers: Sequence[int] | None = None, device: str = "cpu"
    ) -> None:

        self.frontend = SelfSupervisedEncoder(**frontend_conf).to(device).eval()
        self.layers = list(layers or range(1, self.frontend.num_layers + 1))
        self.device = device
        outside = [layer for layer in self.layers if not 1 <= layer <= self.frontend.num_layers]
        if outside:
            raise InputError(f"layers {outside}: the encoder has layers 1 to {self.frontend.num_layers}")

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` (N,) -> (T, layers * D)."""
        speech = torch.from_numpy(samples)[None].to(self.device)
        states, _ = self.frontend(speech, torch.tensor([len(samples)], device=self.device))
        chosen = {layer: state[0] for layer, state in enumerate(states, start=1) if layer in self.layers}
        return torch.cat([chosen[layer] for layer in self.layers], dim=-1).float().cpu().numpy()
