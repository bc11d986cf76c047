"""Prompt-adaptive dynamic fusion of the language model's layers (named in arXiv 2509.18570; the formula is ours)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from harmonifuse_espnet.model.layer_weights import LayerWeights, weighted_sum

# Initial logit of the last layer. Each of the other M - 1 layers then has the weight exp(-15) = 3e-7 for every prompt,
# which changes the logits of a 24-layer model by 5e-6 of the largest one (7e-4 with a bias of 10). Adam with learning
# rate 1e-3 needed a hundred steps to move weight away from the last layer with 10 and 15, over a thousand with 20.
LAST_BIAS = 15.0


class LayerFusion(nn.Module):
    """``F = sum_m beta_m Norm_m(S_m)``, S_m the output of layer m and beta the weights of the layers.

    Norm_M is the language model's own final norm; the other norms start as copies of it and are trained.

    Args:
        weights: Computes beta from the prompt or the task, or has one learned vector.
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
            states: Output of every layer, M x (B, S, V); the last one has passed the final norm already.
            beta: (B, M), from ``self.weights(prompt_summary, task)``.

        Returns:
            F (B, S, V), in the precision of ``beta``.
        """
        *others, last = (state.to(beta.dtype) for state in states)
        normed = [norm(state) for norm, state in zip(self.norms, others, strict=True)]
        return weighted_sum([*normed, last], beta)

    def activation_bytes(self, positions: int, width: int) -> int:
        """Estimate the bytes kept for the backward pass at ``positions`` positions: ``positions 3 M V 4``.

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
