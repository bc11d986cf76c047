"""Prompt-adaptive dynamic fusion of the language model's layers (named in arXiv 2509.18570; the formula is ours)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from harmonifuse_espnet.model.layer_weights import LayerWeights, weighted_sum

# Initial logit of the last layer. The other layers start with weight exp(-15) = 3e-7, which changes the logits of a
# 24-layer model by 5e-6 of the largest logit (7e-4 for a bias of 10). With Adam and learning rate 1e-3, training
# needed a hundred steps to increase the other weights for 10 and 15, and more than a thousand for 20.
LAST_BIAS = 15.0


class LayerFusion(nn.Module):
    """``F = sum_m beta_m Norm_m(S_m)``, with the output S_m and the weight beta_m of each layer m.

    Norm_M is the language model's own final norm; the other norms start as copies of it and are trained.

    Args:
        weights: Layer weights beta, from the prompt, from the task, or one learned vector.
        final_norm: The final norm of the language model, copied M - 1 times.
    """

    def __init__(self, weights: LayerWeights, final_norm: nn.Module) -> None:
        super().__init__()
        self.weights = weights
        self.norms = nn.ModuleList([copy.deepcopy(final_norm) for _ in range(weights.num_layers - 1)])
        self.norms.requires_grad_(True)

    def forward(self, states: Sequence[Tensor], beta: Tensor) -> Tensor:
        """Return F, the fused states.

        Args:
            states: Output of every layer, M x (B, S, V), the last one after the final norm.
            beta: (B, M), from ``self.weights(prompt_summary, task)``.

        Returns:
            F (B, S, V), with the dtype of ``beta``.
        """
        *others, last = (state.to(beta.dtype) for state in states)
        normed = [norm(state) for norm, state in zip(self.norms, others, strict=True)]
        return weighted_sum([*normed, last], beta)

    def activation_bytes(self, positions: int, width: int) -> int:
        """Estimate the bytes kept for backward: three float32 tensors per layer, ``positions 3 M V 4``.

        ``width`` is V. Without fusion, M is 1.
        """
        return 12 * (len(self.norms) + 1) * width * positions


class LastLayerFusion(LayerFusion):
    """No fusion: F is the output of the language model."""

    def __init__(self, weights: LayerWeights) -> None:
        nn.Module.__init__(self)
        self.weights, self.norms = weights, nn.ModuleList()

    def forward(self, states: Sequence[Tensor], beta: Tensor) -> Tensor:
        """``states`` M x (B, S, V), ``beta`` (B, M) -> the output of the last layer (B, S, V)."""
        return states[-1]
