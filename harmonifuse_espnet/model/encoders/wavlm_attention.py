"""WavLM's self-attention with gated relative position bias, by PyTorch's fused attention.

For query i and key j of a head, the bias is ``g_i * f(j - i)``. f is an embedding of the bucket of the distance, shared
by all layers. ``g_i = a * (b * c - 1) + 2``, with ``a, b = sigmoid(W x_i)`` for the part x_i of the layer's input that
belongs to the head (Chi et al., 2022, arXiv:2106.16138; Chen et al., 2022, arXiv:2110.13900). Hugging Face computes the
biases of a whole batch in each layer, (B x heads, T, T); here they are computed for a few queries at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit
from harmonifuse_espnet.model.encoders.packed_attention import AttentionCall, PackedAttention, dropout_of

# Maximum number of biases (heads x queries x keys) at a time; 16 MB on the CPU, to fit its caches.
BIASES_AT_A_TIME = DeviceLimit(cpu=2**22, accelerator=2**26)
ALIGNMENT = 16  # elements; fused attention on GPUs copies a bias with unaligned rows


class GatedPackedAttention(PackedAttention):
    """:class:`PackedAttention` with WavLM's bias.

    Args:
        first: The first layer's attention module, which has the shared embedding of distances.
        lengths: Frames of each utterance.
    """

    saves_bias = True

    def __init__(self, first: Any, lengths: Sequence[int]) -> None:
        super().__init__(first, lengths)
        self.bias = position_bias(first, max(lengths))

    def attend(self, module: Any, hidden: Tensor, qkv: Sequence[Tensor], call: AttentionCall) -> Tensor:
        """Compute one call from queries, keys and values ``qkv``, each (S, heads, d) -> (b, n, heads, d)."""
        query, key, value = (call.pad(packed).transpose(1, 2) for packed in qkv)
        key, value = key.contiguous(), value.contiguous()  # every iteration reads them
        gate = position_gate(module, call.pad(hidden.unflatten(-1, (self.heads, -1)))).transpose(1, 2)
        width = _aligned(call.size)
        step = max(1, BIASES_AT_A_TIME.on(hidden.device) // (len(query) * self.heads * width))
        parts = []
        for start in range(0, call.size, step):
            chosen = slice(start, min(start + step, call.size))
            bias = (gate[:, :, chosen] * self.bias[:, chosen, :width]).to(query.dtype)[..., : call.size]
            if call.mask is not None:
                bias = bias.masked_fill_(~call.mask[:, None, None], float("-inf"))
            parts.append(F.scaled_dot_product_attention(query[:, :, chosen], key, value, bias, dropout_of(module)))
        return torch.cat(parts, dim=2).transpose(1, 2)


def position_bias(first: Any, size: int) -> Tensor:
    """Return ``f(j - i)`` of each head: (heads, size, n), with ``size`` rounded up to a multiple n of ``ALIGNMENT``."""
    positions = torch.arange(_aligned(size), device=first.rel_attn_embed.weight.device)
    distances = torch.arange(1 - size, len(positions), device=positions.device)
    by_distance = first.rel_attn_embed(first._relative_positions_bucket(distances))
    return by_distance.T[:, positions - positions[:size, None] + size - 1].contiguous()


def position_gate(module: Any, hidden: Tensor) -> Tensor:
    """Return ``a * (b * c - 1) + 2`` of each head and frame: (b, n, heads, d) -> (b, n, heads, 1)."""
    logits = module.gru_rel_pos_linear(hidden).unflatten(-1, (2, 4)).sum(-1)
    a, b = logits.sigmoid().chunk(2, dim=-1)
    return a * (b * module.gru_rel_pos_const.view(-1, 1) - 1.0) + 2.0


def _aligned(size: int) -> int:
    """Round up to a multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT
