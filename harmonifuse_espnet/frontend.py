"""Speech encoders: audio or dumped features in, every hidden state out.

All share one interface: ``forward(speech, lengths) -> (states, lengths)`` with ``states`` a list of L tensors
(B, T, D), and the attributes ``num_layers`` (L) and ``hidden_size`` (D).
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
from torch.nn.utils.rnn import pad_sequence

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
        feats_type: ``raw`` (speech is a waveform) or ``fbank`` (speech is log-mel frames dumped by stage 3).
        feats_stats: ``feats_stats.npz`` of stage 5 for global mean and variance normalisation, or None for none.
        specaug: Arguments of ESPnet's ``SpecAug`` (masks in frames and mel bins), or None.
        attention_context: Frames of 40 ms to each side that a frame may attend to; None for the whole utterance.

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
        feats_type: str = "raw",
        feats_stats: str | None = None,
        specaug: Mapping[str, Any] | None = None,
        attention_context: int | None = None,
    ) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size
        self.logmel = LogMel(n_mels) if feats_type == "raw" else None
        self.normalize = GlobalMVN(feats_stats) if feats_stats else None
        self.specaug = SpecAug(**specaug) if specaug else None
        self.subsampling = ConvSubsampling(n_mels, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            [
                ConformerBlock(hidden_size, num_heads, 4 * hidden_size, kernel_size, dropout, attention_context)
                for _ in range(num_layers)
            ]
        )

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """``speech`` (B, N) or (B, T0, n_mels), ``lengths`` (B,) -> L states (B, T, D), lengths in frames of 40 ms."""
        with torch.no_grad():
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


class HuggingFaceFrontend(nn.Module):
    """A WavLM, HuBERT or wav2vec 2.0 encoder from Hugging Face; the embedding output (index 0) is left out.

    The base models normalise their first convolution over time, padding included (``feat_extract_norm: group``): they
    read one utterance at a time, so that an answer does not depend on its batch. The large ones read batches.

    Args:
        model: Name on the hub or a folder; its weights are loaded. None with ``config`` for random weights.
        config: ``{"model_type": "wavlm", ...}``, the fields of the Hugging Face configuration.
        freeze: Run it without gradients, in eval mode, and leave its weights out of checkpoints when they can be
            loaded again from ``model``.

    Raises:
        ValueError: if not exactly one of ``model`` and ``config`` is given.
    """

    def __init__(self, model: str | None = None, config: Mapping[str, Any] | None = None, freeze: bool = True) -> None:
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        super().__init__()
        if (model is None) == (config is None):
            raise ValueError(f"frontend_conf needs either 'model' or 'config', got model={model}, config={config}")
        overrides = {"layerdrop": 0.0, "apply_spec_augment": False}
        if model is not None:
            self.encoder = AutoModel.from_pretrained(model, **overrides)
            self.scale_inputs = AutoFeatureExtractor.from_pretrained(model).do_normalize
        else:
            self.encoder = AutoModel.from_config(AutoConfig.for_model(**{**dict(config or {}), **overrides}))
            self.scale_inputs = self.encoder.config.feat_extract_norm == "layer"
        self.num_layers = self.encoder.config.num_hidden_layers
        self.hidden_size = self.encoder.config.hidden_size
        self.one_by_one = self.encoder.config.feat_extract_norm == "group"
        self.frozen = freeze
        if freeze:
            self.encoder.requires_grad_(False)
        self.restorable = freeze and model is not None

    def train(self, mode: bool = True) -> HuggingFaceFrontend:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """``speech`` (B, N) at 16 kHz, ``lengths`` (B,) in samples -> L states (B, T, D), lengths in 20 ms frames."""
        mask = length_mask(lengths, speech.size(1))
        if self.scale_inputs:
            speech = _standardize(speech, mask, lengths)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if self.one_by_one:
                rows = [self._encode(row[None, :length], None) for row, length in zip(speech, lengths, strict=True)]
                states = [
                    pad_sequence([state[0] for state in layer], batch_first=True) for layer in zip(*rows, strict=True)
                ]
            else:
                states = self._encode(speech, mask.long())
        return states, self.encoder._get_feat_extract_output_lengths(lengths)

    def _encode(self, speech: Tensor, mask: Tensor | None) -> list[Tensor]:
        return list(self.encoder(speech, attention_mask=mask, output_hidden_states=True).hidden_states[1:])


class PrecomputedFrontend(nn.Module):
    """The layers of a frozen encoder as stage 3 dumped them (``--feats_type ssl``): (B, T, L * D) -> L x (B, T, D)."""

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


def _standardize(speech: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean, unit variance over each utterance's valid samples, zeros beyond: (B, N) -> (B, N)."""
    count = lengths[:, None].to(speech.dtype)
    centred = (speech - (speech * mask).sum(1, keepdim=True) / count) * mask
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + 1.0e-7)


def stats_path(feats_stats: str | Path | None) -> str | None:
    """Check that the statistics file of stage 5 is there.

    Raises:
        FileNotFoundError: if it is not.
    """
    if feats_stats is not None and not Path(feats_stats).is_file():
        raise FileNotFoundError(f"{feats_stats}: no such statistics file; stage 5 makes it")
    return str(feats_stats) if feats_stats is not None else None
