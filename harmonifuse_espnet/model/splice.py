"""Splice prompt, speech and target into one sequence of embeddings, for training and decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -100  # label that the cross entropy ignores, as in Hugging Face


@dataclass(frozen=True)
class Segment:
    """One part of the input of each utterance, padded to X positions.

    Attributes:
        embeds: (B, X, V).
        mask: (B, X).
        labels: Target tokens (B, X); None if the segment has no targets.
    """

    embeds: Tensor
    mask: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Spliced:
    """The input of the language model.

    Attributes:
        embeds: (B, S, V), 0 at padding.
        mask: (B, S).
        position_ids: Positions (B, S), counted from 0 at the first valid position.
        labels: Target tokens (B, S), ``IGNORE`` at all other positions.
    """

    embeds: Tensor
    mask: Tensor
    position_ids: Tensor
    labels: Tensor


def splice(segments: Sequence[Segment], padding_side: str = "right") -> Spliced:
    """Concatenate the valid positions of the segments in each row, and pad the rows on one side.

    Training pads on the right, generation on the left.

    Example:
        >>> prompt = Segment(torch.ones(2, 2, 1), torch.tensor([[True, True], [True, False]]))
        >>> speech = Segment(2 * torch.ones(2, 1, 1), torch.tensor([[True], [True]]))
        >>> splice([prompt, speech]).embeds[..., 0].tolist()
        [[1.0, 1.0, 2.0], [1.0, 2.0, 0.0]]
        >>> splice([prompt, speech], "left").embeds[..., 0].tolist()
        [[1.0, 1.0, 2.0], [0.0, 1.0, 2.0]]

    Raises:
        ValueError: if ``padding_side`` is neither ``left`` nor ``right``.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side must be left or right, got {padding_side!r}")
    mask = torch.cat([segment.mask for segment in segments], dim=1)
    embeds = torch.cat([segment.embeds for segment in segments], dim=1)
    labels = torch.cat([_labels(segment) for segment in segments], dim=1)
    order = torch.argsort(mask.int(), dim=1, descending=padding_side == "right", stable=True)
    length = int(mask.sum(1).max())
    order = order[:, :length] if padding_side == "right" else order[:, -length:]
    mask = mask.gather(1, order)
    embeds = embeds.gather(1, order[..., None].expand(-1, -1, embeds.size(-1))) * mask[..., None]
    labels = labels.gather(1, order).masked_fill(~mask, IGNORE)
    return Spliced(embeds, mask, (mask.long().cumsum(1) - 1).clamp(min=0), labels)


def _labels(segment: Segment) -> Tensor:
    if segment.labels is None:
        return torch.full(segment.mask.shape, IGNORE, device=segment.mask.device)
    return segment.labels
