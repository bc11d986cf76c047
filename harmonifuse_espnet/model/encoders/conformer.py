"""Conformer encoder for training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.layers.global_mvn import GlobalMVN
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.data.logmel import LogMel
from harmonifuse_espnet.model.activations import BatchShape, Precision, num_attention_scores
from harmonifuse_espnet.model.encoders.base import SpeechEncoder
from harmonifuse_espnet.model.encoders.conformer_block import ConformerBlock, ConvSubsampling


class ConformerEncoder(SpeechEncoder):
    """Log-mel features and a small Conformer encoder, for training from scratch.

    Args:
        n_mels: Mel bins.
        hidden_size: Width D.
        num_layers: Number of Conformer blocks, L.
        num_heads: Attention heads.
        kernel_size: Kernel of the depthwise convolutions, in frames.
        dropout: Dropout after the subsampling and in every block.
        subsampling: Feature frames (10 ms) per encoder frame, a power of two and at least 4. 4 (40 ms) allows CTC on
            characters; 8 (80 ms) takes half the time, but needs longer CTC units.
        feats_type: ``raw`` (waveforms) or ``fbank`` (log-mel frames dumped by stage 3).
        feats_stats: ``feats_stats.npz`` of stage 5 for global mean and variance normalisation, or None.
        specaug: Arguments of ESPnet's ``SpecAug`` (masks in frames and mel bins), or None.

    Example:
        >>> encoder = ConformerEncoder(n_mels=20, hidden_size=32, num_layers=2, num_heads=2)
        >>> states, lengths = encoder(torch.randn(1, 16000), torch.tensor([16000]))
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
        """Encode ``speech`` (B, N) or (B, T0, n_mels), ``lengths`` (B,) -> L states (B, T, D), lengths in frames."""
        # Mel energies need more than the 8 significant bits of bfloat16.
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

    def num_frames(self, length: int) -> int:
        """Return ``ceil(T0 / subsampling)``, where T0 is the number of log-mel frames."""
        features = length // self.logmel.hop_length + 1 if self.logmel else length
        return -(-features // self.subsampling.factor)

    def activation_bytes(self, batch: BatchShape, precision: Precision) -> int:
        """Estimate ``L B (32 D T + 3 T T D / 64) a`` bytes, or ``L B T D a`` for the states of a frozen encoder.

        ``T T D / 64`` is the number of attention scores with heads of width 64.
        """
        frames, size = self.num_frames(batch.length), precision.element_size(self)
        kept = frames * self.hidden_size
        if any(weight.requires_grad for weight in self.parameters()):
            kept = 32 * kept + 3 * num_attention_scores(frames, self.hidden_size)
        return self.num_layers * batch.utterances * kept * size
