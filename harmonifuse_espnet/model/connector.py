"""From encoder frames to the language model's embedding space, and the CTC head that keeps those frames readable."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask


class StackingConnector(nn.Module):
    """Stacks ``stack`` frames and projects them: (B, T, C) -> (B, ceil(T / stack), V).

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
        """``frames`` (B, T, C), ``lengths`` (B,) in frames -> (B, T', V), lengths in stacked frames."""
        frames = frames * length_mask(lengths, frames.size(1))[..., None]
        frames = F.pad(frames, (0, 0, 0, -frames.size(1) % self.stack))
        stacked = frames.unflatten(1, (-1, self.stack)).flatten(2)
        return self.project(stacked), (lengths + self.stack - 1) // self.stack
