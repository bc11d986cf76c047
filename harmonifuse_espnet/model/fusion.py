"""Prompt-adaptive dynamic fusion of the language model's layers (arXiv 2509.18570 names it; the formula is ours)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from harmonifuse_espnet.model.layer_weights import LayerWeights, weighted_sum

# Where the last layer's logit starts. Each of the other M - 1 layers then has a share of exp(-15) = 3e-7, whatever the
# prompt: the logits of a 24-layer model move by 5e-6 of the largest (by 7e-4 with 10). With 20, Adam at 1e-3 took over
# a thousand steps to leave the last layer, with 15 a hundred, as with 10.
LAST_BIAS = 15.0


class LayerFusion(nn.Module):
    """``F = sum_m beta_m Norm_m(S_m)``, ``beta`` the weights of a :class:`LayerWeights`.

    Norm_M is the language model's own final norm, the others are trained copies of it.

    Args:
        weights: Where beta comes from: the prompt, the task, or one learned vector.
        final_norm: The language model's final norm, copied M - 1 times.
    """

    def __init__(self, weights: LayerWeights, final_norm: nn.Module) -> None:
        super().__init__()
        self.weights = weights
        self.norms = nn.ModuleList([copy.deepcopy(final_norm) for _ in range(weights.num_layers - 1)])
        self.norms.requires_grad_(True)

    def forward(self, states: Sequence[Tensor], beta: Tensor) -> Tensor:
        """Fuse.

        Args:
            states: M x (B, S, V), the output of every layer, the last one after the model's final norm.
            beta: (B, M), from ``self.weights(prompt_summary, task)``.

        Returns:
            (B, S, V) in the precision of ``beta``.
        """
        *others, last = (state.to(beta.dtype) for state in states)
        normed = [norm(state) for norm, state in zip(self.norms, others, strict=True)]
        return weighted_sum([*normed, last], beta)


class LastLayerFusion(LayerFusion):
    """No fusion: the language model's own output."""

    def __init__(self, weights: LayerWeights) -> None:
        nn.Module.__init__(self)
        self.weights, self.norms = weights, nn.ModuleList()

    def forward(self, states: Sequence[Tensor], beta: Tensor) -> Tensor:
        """``states`` M x (B, S, V), ``beta`` (B, M) -> the last state (B, S, V)."""
        return states[-1]
