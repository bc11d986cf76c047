"""WavLM's self-attention with the gated relative position bias, through PyTorch's fused attention.

For query i and key j of a head, the bias is ``g_i * f(j - i)``: ``f`` looks up the bucket of the distance in an
embedding that all layers share, ``g_i = a * (b * c - 1) + 2`` with ``a, b = sigmoid(W x_i)`` listens to the head's part
of the layer's input (Chi et al., 2022, arXiv:2106.16138; Chen et al., 2022, arXiv:2110.13900). Hugging Face makes the
product of a whole batch, (B x heads, T, T), in each layer; here it is made for some queries of one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonifuse_espnet.model.encoders.packed_attention import Call, PackedAttention, dropout_of

BIASES = {"cpu": 2**22, "cuda": 2**26}  # numbers (heads x queries x keys) made at a time: 16 MB stay in CPU caches
ALIGNMENT = 16  # elements: the fused attention of GPUs copies a bias whose rows begin elsewhere


class GatedPackedAttention(PackedAttention):
    """:class:`PackedAttention` with WavLM's bias.

    Args:
        first: The first layer's attention module, which holds the embedding of the distances.
        lengths: Frames of each utterance.
    """

    def __init__(self, first: Any, lengths: Sequence[int]) -> None:
        super().__init__(first, lengths)
        self.bias = position_bias(first, max(lengths))

    def attend(self, module: Any, hidden: Tensor, rows: Sequence[Tensor], call: Call) -> Tensor:
        """One call's part of queries, keys and values (S, heads, d) -> (b, n, heads, d)."""
        query, key, value = (call.read(row).transpose(1, 2) for row in rows)
        key, value = key.contiguous(), value.contiguous()  # for they are read once for each of the steps below
        gate = position_gate(module, call.read(hidden.unflatten(-1, (self.heads, -1)))).transpose(1, 2)
        width = _aligned(call.size)
        step = max(1, BIASES[hidden.device.type] // (len(query) * self.heads * width))
        parts = []
        for start in range(0, call.size, step):
            chosen = slice(start, min(start + step, call.size))
            bias = (gate[:, :, chosen] * self.bias[:, chosen, :width]).to(query.dtype)[..., : call.size]
            if call.mask is not None:
                bias = bias.masked_fill_(~call.mask[:, None, None], float("-inf"))
            parts.append(F.scaled_dot_product_attention(query[:, :, chosen], key, value, bias, dropout_of(module)))
        return torch.cat(parts, dim=2).transpose(1, 2)


def position_bias(first: Any, size: int) -> Tensor:
    """``f(j - i)`` of each head, (heads, size, size); keys beyond ``size`` fill the rows up to :data:`ALIGNMENT`."""
    places = torch.arange(_aligned(size), device=first.rel_attn_embed.weight.device)
    distances = torch.arange(1 - size, len(places), device=places.device)
    by_distance = first.rel_attn_embed(first._relative_positions_bucket(distances))
    return by_distance.T[:, places - places[:size, None] + size - 1].contiguous()


def position_gate(module: Any, hidden: Tensor) -> Tensor:
    """``a * (b * c - 1) + 2`` of each head and frame: (b, n, heads, d) -> (b, n, heads, 1)."""
    logits = module.gru_rel_pos_linear(hidden).unflatten(-1, (2, 4)).sum(-1)
    a, b = logits.sigmoid().chunk(2, dim=-1)
    return a * (b * module.gru_rel_pos_const.view(-1, 1) - 1.0) + 2.0


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
