"""Blocks of a small Conformer (Gulati et al., 2020, arXiv:2005.08100) whose outputs do not depend on padding.

Padding is masked before every operation along time, so that an utterance has the same output alone and in a batch.
Positions are encoded by rotary embeddings (Su et al., 2021, arXiv:2104.09864).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask


class ConvSubsampling(nn.Module):
    """Subsample by two strided convolutions over time and frequency, then by stacking: (B, T, F) -> (B, T / factor, D).

    The second convolution is depthwise separable, as in FastConformer (Rekesh et al., 2023, arXiv:2305.05084). Both use
    the initialisation of He et al. (2015, arXiv:1502.01852); with PyTorch's default, the variance shrinks until the
    biases dominate. From ``factor`` 8 on, stacking frames trains faster than a third convolution.

    Args:
        features: Feature width F.
        width: Output width D.
        factor: Feature frames for each output frame.

    Raises:
        InputError: if ``factor`` is not a power of two, or is below 4.
    """

    def __init__(self, features: int, width: int, factor: int = 4) -> None:
        super().__init__()
        if factor < 4 or factor & (factor - 1):
            raise InputError(f"subsampling must be a power of two (4, 8, ...), got {factor}")
        self.factor, self.stack, channels = factor, factor // 4, max(1, width // 8)
        second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels), nn.Conv2d(channels, channels, 1)
        )
        self.convs = nn.ModuleList([nn.Conv2d(1, channels, 3, stride=2, padding=1), second])
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.groups == 1 else "linear")
                nn.init.zeros_(module.bias)
        self.project = nn.Linear(self.stack * channels * -(-features // 4), width)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample ``features`` (B, T, F), ``lengths`` (B,) in frames -> (B, ceil(T / factor), D), lengths (B,)."""
        hidden = features.unsqueeze(1)
        for conv in self.convs:
            lengths = (lengths + 1) // 2
            hidden = F.relu(conv(hidden))
            hidden = hidden * length_mask(lengths, hidden.size(2))[:, None, :, None]
        frames = hidden.transpose(1, 2).flatten(2)
        frames = F.pad(frames, (0, 0, 0, -frames.size(1) % self.stack)).unflatten(1, (-1, self.stack)).flatten(2)
        lengths, states = -(-lengths // self.stack), self.project(frames)
        return states * length_mask(lengths, states.size(1))[..., None], lengths


class ConformerBlock(nn.Module):
    """Half feed-forward, self-attention, convolution, half feed-forward and LayerNorm: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, heads: int, feedforward: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.feedforward_in = FeedForward(width, feedforward, dropout)
        self.attention = RotaryAttention(width, heads, dropout)
        self.convolution = Convolution(width, kernel_size, dropout)
        self.feedforward_out = FeedForward(width, feedforward, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Transform ``hidden`` (B, T, D), ``mask`` (B, T) -> (B, T, D)."""
        hidden = hidden + 0.5 * self.feedforward_in(hidden)
        hidden = hidden + self.attention(hidden, mask)
        hidden = hidden + self.convolution(hidden, mask)
        hidden = hidden + 0.5 * self.feedforward_out(hidden)
        return self.norm(hidden)


class FeedForward(nn.Sequential):
    """LayerNorm, expansion, SiLU, projection: (..., D) -> (..., D)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            nn.SiLU(),
            nn.Linear(inner, width),
            nn.Dropout(dropout),
        )


class RotaryAttention(nn.Module):
    """Pre-norm multi-head self-attention with rotary position embeddings; padded keys are masked.

    Raises:
        InputError: if ``width`` is not a multiple of ``2 * heads``.
    """

    frequencies: Tensor

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % (2 * heads):
            raise InputError(f"width {width} must be a multiple of twice the number of heads, {heads}")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        half = width // heads // 2
        self.register_buffer("frequencies", 10000.0 ** (-torch.arange(half) / half), persistent=False)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Transform ``hidden`` (B, T, D), ``mask`` (B, T) -> (B, T, D)."""
        query, key, value = self.qkv(self.norm(hidden)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        angles = torch.arange(hidden.size(1), device=hidden.device)[:, None] * self.frequencies
        context = F.scaled_dot_product_attention(
            _rotate(query, angles),
            _rotate(key, angles),
            value,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return F.dropout(self.out(context.transpose(1, 2).flatten(2)), self.dropout, self.training)


class Convolution(nn.Module):
    """Pre-norm gated depthwise convolution over time, with LayerNorm instead of BatchNorm."""

    def __init__(self, width: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.inner_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Transform ``hidden`` (B, T, D), ``mask`` (B, T) -> (B, T, D)."""
        gated = F.glu(self.expand(self.norm(hidden)), dim=-1) * mask[..., None]
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.project(F.silu(self.inner_norm(mixed))))


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the two halves of ``x`` (B, heads, T, 2H) by ``angles`` (T, H)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
