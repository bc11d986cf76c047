"""Prompt, speech and answer become one sequence of embeddings: the same function for training and for decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -100  # a label that the cross entropy leaves out, as in Hugging Face


@dataclass(frozen=True)
class Segment:
    """A stretch of each row: ``embeds`` (B, X, V), ``mask`` (B, X), ``labels`` (B, X) or None: nothing to predict."""

    embeds: Tensor
    mask: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Spliced:
    """``embeds`` (B, S, V), ``mask`` (B, S), ``position_ids`` (B, S) from 0, ``labels`` (B, S), IGNORE elsewhere."""

    embeds: Tensor
    mask: Tensor
    position_ids: Tensor
    labels: Tensor


def splice(segments: Sequence[Segment], padding_side: str = "right") -> Spliced:
    """Join segments row by row without gaps, and pad at one side (right to train, left to generate).

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
    size = int(mask.sum(1).max())
    order = order[:, :size] if padding_side == "right" else order[:, -size:]
    mask = mask.gather(1, order)
    embeds = embeds.gather(1, order[..., None].expand(-1, -1, embeds.size(-1))) * mask[..., None]
    labels = labels.gather(1, order).masked_fill(~mask, IGNORE)
    return Spliced(embeds, mask, (mask.long().cumsum(1) - 1).clamp(min=0), labels)


def _labels(segment: Segment) -> Tensor:
    if segment.labels is None:
        return torch.full(segment.mask.shape, IGNORE, device=segment.mask.device)
    return segment.labels
