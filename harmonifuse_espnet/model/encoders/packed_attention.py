"""Self-attention without padding: the utterances of a batch are concatenated to one packed sequence of S frames.

Projections, feed-forward layers and norms act on single frames and run on the whole sequence. Attention runs per
utterance, or on several short utterances per call, to reduce the overhead of calls on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit

# Maximum number of scores (heads x queries x keys) of a call with several utterances. There are none on the CPU.
SCORES_PER_CALL = DeviceLimit(cpu=1, accelerator=2**26)


@dataclass(frozen=True)
class AttentionCall:
    """One attention call: b adjacent utterances of at most n frames.

    Attributes:
        start, stop: First frame, and frame after the last, in the packed sequence.
        size: n.
        index: Positions of the frames in the packed sequence (b, n), arbitrary at padding; None for one utterance.
        mask: (b, n), True at valid frames; None if all are valid.
        valid: Indices of the valid frames in the flattened (b, n); unlike the mask, they index without a
            synchronisation of the GPU; None if all are valid.
    """

    start: int
    stop: int
    size: int
    index: Tensor | None = None
    mask: Tensor | None = None
    valid: Tensor | None = None

    def pad(self, packed: Tensor) -> Tensor:
        """Return the utterances as a padded batch: (S, heads, d) -> (b, n, heads, d)."""
        return packed[None, self.start : self.stop] if self.index is None else packed[self.index]

    def unpad(self, padded: Tensor) -> Tensor:
        """Return the utterances as a packed sequence: (b, n, heads, d) -> (stop - start, heads, d)."""
        frames = padded.flatten(0, 1)
        return frames if self.valid is None else frames[self.valid]


def group_calls(lengths: Sequence[int], heads: int, device: torch.device) -> list[AttentionCall]:
    """Join adjacent utterances while the padded scores of a call do not exceed :data:`SCORES_PER_CALL`."""
    groups: list[list[int]] = []
    for length in lengths:
        joined = [*groups[-1], length] if groups else []
        if joined and heads * len(joined) * max(joined) ** 2 <= SCORES_PER_CALL.on(device):
            groups[-1] = joined
        else:
            groups.append([length])
    calls, start = [], 0
    for group in groups:
        calls.append(_build_call(start, group, device))
        start = calls[-1].stop
    return calls


def _build_call(start: int, group: Sequence[int], device: torch.device) -> AttentionCall:
    size, stop = max(group), start + sum(group)
    if len(group) == 1:
        return AttentionCall(start, stop, size)
    lengths = torch.tensor(group, device=device)
    starts = start + lengths.cumsum(0) - lengths
    index = (starts[:, None] + torch.arange(size, device=device)).clamp(max=stop - 1)
    if min(group) == size:
        return AttentionCall(start, stop, size, index)
    mask = length_mask(lengths, size)
    return AttentionCall(start, stop, size, index, mask, mask.flatten().nonzero()[:, 0])


class PackedAttention:
    """Self-attention within each utterance of a packed sequence: ``attention(module, hidden)``, (S, D) -> (S, D).

    The weights are those of ``module``, an attention module of Hugging Face's wav2vec 2.0 family.

    Args:
        first: The first layer's attention module.
        lengths: Frames of each utterance; their sum is S.
    """

    saves_bias = False  # whether autograd keeps a bias of the size of the scores

    def __init__(self, first: Any, lengths: Sequence[int]) -> None:
        self.heads: int = first.num_heads
        self.calls = group_calls(lengths, self.heads, first.q_proj.weight.device)

    def __call__(self, module: Any, hidden: Tensor) -> Tensor:
        """Attend with the weights of ``module``: ``hidden`` (S, D) -> (S, D)."""
        projections = (module.q_proj, module.k_proj, module.v_proj)
        qkv = [project(hidden).unflatten(-1, (self.heads, -1)) for project in projections]
        parts = [call.unpad(self.attend(module, hidden, qkv, call)) for call in self.calls]
        return module.out_proj(torch.cat(parts).flatten(1))

    def attend(self, module: Any, hidden: Tensor, qkv: Sequence[Tensor], call: AttentionCall) -> Tensor:
        """Compute one call from queries, keys and values ``qkv``, each (S, heads, d) -> (b, n, heads, d)."""
        query, key, value = (call.pad(packed).transpose(1, 2) for packed in qkv)
        mask = None if call.mask is None else call.mask[:, None, None]
        context = F.scaled_dot_product_attention(query, key, value, mask, dropout_of(module))
        return context.transpose(1, 2)


def dropout_of(module: Any) -> float:
    """Return the attention dropout of a module, 0 in eval mode."""
    return module.dropout if module.training else 0.0
