"""Connector: projects encoder frames to the embedding space of the language model."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask


class StackingConnector(nn.Module):
    """Stacks consecutive frames and projects them with a two-layer MLP: (B, T, C) -> (B, ceil(T / stack), V).

    Args:
        input_size: Width C.
        output_size: Width V.
        stack: Number of frames that are stacked into one.

    Example:
        >>> import torch
        >>> connector = StackingConnector(input_size=4, output_size=8, stack=2)
        >>> frames, lengths = connector(torch.randn(1, 5, 4), torch.tensor([5]))
        >>> frames.shape, lengths
        (torch.Size([1, 3, 8]), tensor([3]))
    """

    def __init__(self, input_size: int, output_size: int, stack: int = 2) -> None:
        super().__init__()
        self.stack = stack
        self.project = nn.Sequential(
            nn.LayerNorm(stack * input_size),
            nn.Linear(stack * input_size, output_size),
            nn.GELU(),
            nn.Linear(output_size, output_size),
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``frames`` (B, T, C), ``lengths`` (B,) -> stacked frames (B, T', V), their lengths (B,)."""
        frames = frames * length_mask(lengths, frames.size(1))[..., None]
        frames = F.pad(frames, (0, 0, 0, -frames.size(1) % self.stack))
        stacked = frames.unflatten(1, (-1, self.stack)).flatten(2)
        return self.project(stacked), (lengths + self.stack - 1) // self.stack

    def activation_bytes(self, frames: int) -> int:
        """Estimate the bytes kept for backward: four float32 tensors, ``B T' 4 V 4``, with ``frames`` = B T'."""
        return 16 * cast(nn.Linear, self.project[-1]).out_features * frames
