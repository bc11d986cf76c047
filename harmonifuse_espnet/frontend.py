"""Speech encoders: audio or dumped features in, every hidden state out.

All share one interface, with those of ``pretrained_encoder.py`` and ``whisper.py``: ``forward(speech, lengths) ->
(states, lengths)`` with ``states`` an iterable of L tensors (B, T, D) that may be run through once, and the attributes
``num_layers`` (L), ``hidden_size`` (D) and ``frame_shift``, the seconds from one of the T frames to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchaudio
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.layers.global_mvn import GlobalMVN
from torch import Tensor, nn

from harmonifuse_espnet.conformer import ConformerBlock, ConvSubsampling, length_mask

LOG_FLOOR = 1.0e-6  # power: about -60 dB below a full-scale tone's mel energy


class LogMel(nn.Module):
    """Natural logarithm of mel energies.

    Frames are centred at multiples of ``hop_length`` samples and padded with zeros, so that padding in a batch changes
    nothing: an utterance of N samples has ``N // hop_length + 1`` frames.
    """

    def __init__(self, n_mels: int = 80, n_fft: int = 400, hop_length: int = 160, sample_rate: int = 16000) -> None:
        super().__init__()
        self.hop_length = hop_length
        with torch.device("cpu"):  # a plan's meta device is not for torchaudio's filter bank
            self.mel = torchaudio.transforms.MelSpectrogram(
                sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, center=True, pad_mode="constant"
            )

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, N) in [-1, 1], ``lengths`` (B,) in samples -> (B, T, n_mels), lengths in frames."""
        speech = speech * length_mask(lengths, speech.size(1))
        features = self.mel(speech).clamp(min=LOG_FLOOR).log().transpose(1, 2)
        return features, lengths // self.hop_length + 1


class LogMelFrontend(nn.Module):
    """Log-mel features and a small Conformer encoder, for training from scratch.

    Args:
        subsampling: Feature frames of 10 ms to one frame of the encoder, a power of two from 4 on. Frames of 40 ms (4)
            can hold characters; frames of 80 ms (8) need longer CTC units and half the time.
        feats_type: ``raw`` (speech is a waveform) or ``fbank`` (speech is log-mel frames dumped by stage 3).
        feats_stats: ``feats_stats.npz`` of stage 5 for global mean and variance normalisation, or None for none.
        specaug: Arguments of ESPnet's ``SpecAug`` (masks in frames and mel bins), or None.

    Example:
        >>> frontend = LogMelFrontend(n_mels=20, hidden_size=32, num_layers=2, num_heads=2)
        >>> states, lengths = frontend(torch.randn(1, 16000), torch.tensor([16000]))
        >>> len(states), states[0].shape, lengths
        (2, torch.Size([1, 26, 32]), tensor([26]))
    """

    def __init__(
        self,
        n_mels: int = 80,
        hidden_size: int = 144,
        num_layers: int = 4,
        num_heads: int = 4,
        kernel_size: int = 15,
        dropout: float = 0.1,
        subsampling: int = 4,
        feats_type: str = "raw",
        feats_stats: str | None = None,
        specaug: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_layers, self.hidden_size, self.frame_shift = num_layers, hidden_size, 0.01 * subsampling
        self.logmel = LogMel(n_mels) if feats_type == "raw" else None
        self.normalize = GlobalMVN(feats_stats) if feats_stats else None
        self.specaug = SpecAug(**specaug) if specaug else None
        self.subsampling = ConvSubsampling(n_mels, hidden_size, subsampling)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            [ConformerBlock(hidden_size, num_heads, 2 * hidden_size, kernel_size, dropout) for _ in range(num_layers)]
        )

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """``speech`` (B, N) or (B, T0, n_mels), ``lengths`` (B,) -> L states (B, T, D), lengths in frames."""
        # Mel energies span more than bfloat16's eight bits tell apart.
        with torch.no_grad(), torch.autocast(speech.device.type, enabled=False):
            features, lengths = self.logmel(speech, lengths) if self.logmel else (speech.clone(), lengths)
            if self.normalize is not None:
                features, lengths = self.normalize(features, lengths)
            if self.specaug is not None and self.training:
                features, lengths = self.specaug(features, lengths)
            features = features * length_mask(lengths, features.size(1))[..., None]
        hidden, lengths = self.subsampling(features, lengths)
        hidden, mask = self.dropout(hidden), length_mask(lengths, hidden.size(1))
        states = []
        for block in self.blocks:
            hidden = block(hidden, mask)
            states.append(hidden)
        return states, lengths


class PrecomputedFrontend(nn.Module):
    """The layers of a frozen encoder as stage 3 dumped them (``--feats_type ssl``): (B, T, L * D) -> L x (B, T, D)."""

    frame_shift = 0.02  # of all encoders that stage 3 runs

    def __init__(self, num_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """``speech`` (B, T, L * D), ``lengths`` (B,) in frames -> L states (B, T, D), the same lengths.

        Raises:
            ValueError: if the dump's width is not L * D.
        """
        expected = self.num_layers * self.hidden_size
        if speech.size(-1) != expected:
            raise ValueError(
                f"the feature dump is {speech.size(-1)} wide, num_layers x hidden_size is "
                f"{self.num_layers} x {self.hidden_size} = {expected}; "
                "run stage 3 with this encoder or correct frontend_conf"
            )
        return list(speech.unflatten(-1, (self.num_layers, self.hidden_size)).unbind(-2)), lengths


def stats_path(feats_stats: str | Path | None) -> str | None:
    """Check that the statistics file of stage 5 is there.

    Raises:
        FileNotFoundError: if it is not.
    """
    if feats_stats is not None and not Path(feats_stats).is_file():
        raise FileNotFoundError(f"{feats_stats}: no such statistics file; stage 5 makes it")
    return str(feats_stats) if feats_stats is not None else None
