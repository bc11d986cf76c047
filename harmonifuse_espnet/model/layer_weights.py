"""Layer weights, for the encoder and for the language model (``fusion.py``).

All classes have the interface ``weights(prompt_summary, task) -> (B, layers)``; each row sums to 1. ``prompt_summary``
(B, V) is the mean of the prompt's embeddings, ``task`` (B,) the index of the task; a class uses one of them or neither.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harmonifuse_espnet.common.errors import InputError


class LayerWeights(nn.Module):
    """Base class.

    Args:
        num_layers: Number of layers.
        num_tasks: Number of tasks in the table.
        summary_size: Width V of the prompt's summary.
        last_bias: Initial logit of the last layer; the other logits start at 0.
        temperature: Temperature of the softmax.

    Raises:
        InputError: if the temperature is not positive.
    """

    initial_logits: Tensor

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if temperature <= 0.0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.num_layers, self.num_tasks, self.temperature = num_layers, num_tasks, temperature
        initial_logits = torch.zeros(num_layers)
        initial_logits[-1] = last_bias
        self.register_buffer("initial_logits", initial_logits, persistent=False)

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return the logits of the weights: ``prompt_summary`` (B, V), ``task`` (B,) -> (B, layers)."""
        raise NotImplementedError

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """``prompt_summary`` (B, V), ``task`` (B,) -> weights (B, layers), ``softmax(logits / temperature)``."""
        return (self.logits(prompt_summary, task) / self.temperature).softmax(-1)


class SharedWeights(LayerWeights):
    """One learned vector for all tasks: ``softmax(w)``, for the encoder the published formula (arXiv 2509.18570).

    Example:
        >>> SharedWeights(2, 1, 8)(torch.zeros(1, 8), torch.tensor([0])).tolist()
        [[0.5, 0.5]]
    """

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        self.weight = nn.Parameter(self.initial_logits.clone())

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return the same row for all utterances: (B, layers)."""
        return self.weight.expand(task.size(0), -1)


class PerTaskWeights(LayerWeights):
    """One learned vector for each task: ``softmax(w_task)``."""

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        self.weight = nn.Parameter(self.initial_logits.repeat(num_tasks, 1))

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return the row of each utterance's task: (B, layers)."""
        return self.weight[task]


class PromptWeights(LayerWeights):
    """Weights from the prompt: ``softmax((MLP(q) + b) / temperature)``, q the mean of the prompt's embeddings.

    q is normalised, and the last linear layer is initialised with zeros, so that the weights do not
    depend on the prompt at first, and do not collapse onto one layer.
    """

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        last = nn.Linear(summary_size, num_layers)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(self.initial_logits)
        self.mlp = nn.Sequential(nn.LayerNorm(summary_size), nn.Linear(summary_size, summary_size), nn.GELU(), last)

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return ``MLP(q) + b``, where b is the bias of the last linear layer: (B, layers)."""
        return self.mlp(prompt_summary)


class LastWeights(LayerWeights):
    """Weight 1 for the last layer, 0 for the others."""

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return one-hot rows for any ``prompt_summary`` (B, V) and ``task`` (B,): (B, layers)."""
        return torch.eye(self.num_layers, device=task.device)[-1].expand(task.size(0), -1)


class UniformWeights(LayerWeights):
    """The same weight for all layers."""

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Return equal weights for any ``prompt_summary`` (B, V) and ``task`` (B,): (B, layers)."""
        return self.initial_logits.new_full((task.size(0), self.num_layers), 1.0 / self.num_layers)


def weighted_sum(states: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Compute ``sum_i w_i S_i``: ``states`` layers x (B, X, D), ``weights`` (B, layers) -> (B, X, D).

    The states may be an iterator; the sum has the dtype of the weights.

    Example:
        >>> weighted_sum([torch.zeros(1, 1, 1), torch.ones(1, 1, 1)], torch.tensor([[0.25, 0.75]])).item()
        0.75

    Raises:
        ValueError: if the numbers of states and of weights differ.
    """
    layers, count, total = weights.size(1), 0, weights.new_zeros(())
    for count, state in enumerate(states, start=1):
        if count == 1:
            total = weights[:, 0, None, None] * state
        elif count <= layers:
            total.addcmul_(weights[:, count - 1, None, None], state)
    if count != layers:
        raise ValueError(f"{count} layer states for {layers} layer weights")
    return total
