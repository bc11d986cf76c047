"""Self-attention without padding: the utterances of a batch stand one after another in a row of S frames.

What looks at single frames (projections, feed-forwards, norms) reads the row as it is; attention reads it in calls of
one utterance, or of several whose scores are few, since a call has its price on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonifuse_espnet.common.masks import length_mask

# Scores (heads x queries x keys) of neighbours in one call: the CPU gains nothing by such, a GPU is kept busy.
SCORES = {"cpu": 1, "cuda": 2**26}


@dataclass(frozen=True)
class Call:
    """Utterances that attend in one call, b of them with at most n frames.

    Attributes:
        start, stop: Where they stand in the row.
        size: n.
        index: Their frames in the row, (b, n), positions beyond an end being any; None for a single utterance.
        mask: (b, n), True at valid frames; None where all are.
        valid: Numbers of the valid frames in the flattened (b, n), so that a GPU need not be waited for.
    """

    start: int
    stop: int
    size: int
    index: Tensor | None = None
    mask: Tensor | None = None
    valid: Tensor | None = None

    def read(self, row: Tensor) -> Tensor:
        """The utterances' part of a row: (S, heads, d) -> (b, n, heads, d)."""
        return row[None, self.start : self.stop] if self.index is None else row[self.index]

    def strip(self, padded: Tensor) -> Tensor:
        """Back to a row: (b, n, heads, d) -> (stop - start, heads, d)."""
        row = padded.flatten(0, 1)
        return row if self.valid is None else row[self.valid]


def plan_calls(lengths: Sequence[int], heads: int, device: torch.device) -> list[Call]:
    """Group neighbours as long as their padded scores are within :data:`SCORES`."""
    groups: list[list[int]] = []
    for length in lengths:
        joined = [*groups[-1], length] if groups else []
        if joined and heads * len(joined) * max(joined) ** 2 <= SCORES[device.type]:
            groups[-1] = joined
        else:
            groups.append([length])
    calls, start = [], 0
    for group in groups:
        calls.append(_plan_call(start, group, device))
        start = calls[-1].stop
    return calls


def _plan_call(start: int, group: Sequence[int], device: torch.device) -> Call:
    size, stop = max(group), start + sum(group)
    if len(group) == 1:
        return Call(start, stop, size)
    lengths = torch.tensor(group, device=device)
    starts = start + lengths.cumsum(0) - lengths
    index = (starts[:, None] + torch.arange(size, device=device)).clamp(max=stop - 1)
    if min(group) == size:
        return Call(start, stop, size, index)
    mask = length_mask(lengths, size)
    return Call(start, stop, size, index, mask, mask.flatten().nonzero()[:, 0])


class PackedAttention:
    """Self-attention within each utterance of a row: ``attend(module, hidden)``, (S, D) -> (S, D).

    The weights are those of ``module``, an attention module of Hugging Face's wav2vec 2.0 family.

    Args:
        first: The first layer's attention module.
        lengths: Frames of each utterance; their sum is S.
    """

    def __init__(self, first: Any, lengths: Sequence[int]) -> None:
        self.heads: int = first.num_heads
        self.calls = plan_calls(lengths, self.heads, first.q_proj.weight.device)

    def __call__(self, module: Any, hidden: Tensor) -> Tensor:
        """``hidden`` (S, D) -> (S, D)."""
        projections = (module.q_proj, module.k_proj, module.v_proj)
        rows = [project(hidden).unflatten(-1, (self.heads, -1)) for project in projections]
        parts = [call.strip(self.attend(module, hidden, rows, call)) for call in self.calls]
        return module.out_proj(torch.cat(parts).flatten(1))

    def attend(self, module: Any, hidden: Tensor, rows: Sequence[Tensor], call: Call) -> Tensor:
        """One call's part of queries, keys and values (S, heads, d) -> (b, n, heads, d)."""
        query, key, value = (call.read(row).transpose(1, 2) for row in rows)
        mask = None if call.mask is None else call.mask[:, None, None]
        heard = F.scaled_dot_product_attention(query, key, value, mask, dropout_of(module))
        return heard.transpose(1, 2)


def dropout_of(module: Any) -> float:
    """Dropout of an attention module's weights: none in eval mode."""
    return module.dropout if module.training else 0.0
