"""Log-mel features."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask

LOG_FLOOR = 1.0e-6  # about 100 dB below the mel energy of a full-scale tone


class LogMel(nn.Module):
    """Natural logarithm of mel energies.

    Frames are centred at multiples of ``hop_length`` samples, and the signal is padded with zeros, so that padding in a
    batch does not change them. An utterance of N samples has ``N // hop_length + 1`` frames.
    """

    def __init__(self, n_mels: int = 80, n_fft: int = 400, hop_length: int = 160, sample_rate: int = 16000) -> None:
        super().__init__()
        self.hop_length = hop_length
        with torch.device("cpu"):  # torchaudio cannot create its filter bank on the meta device
            self.mel = torchaudio.transforms.MelSpectrogram(
                sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, center=True, pad_mode="constant"
            )

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, T, n_mels) and lengths (B,) in frames.

        ``speech`` (B, N) is in [-1, 1], ``lengths`` (B,) in samples.
        """
        speech = speech * length_mask(lengths, speech.size(1))
        features = self.mel(speech).clamp(min=LOG_FLOOR).log().transpose(1, 2)
        return features, lengths // self.hop_length + 1
