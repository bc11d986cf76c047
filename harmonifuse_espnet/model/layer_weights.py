"""Weights over a stack of layers: of the encoder (``gate.py``) and of the language model (``fusion.py``).

One interface for both: ``weights(prompt_summary, task) -> (B, number of layers)``, rows summing to 1.
``prompt_summary`` (B, V) is the mean of the prompt's embeddings, ``task`` (B,) the task's index; a class uses the one,
the other or neither.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harmonifuse_espnet.common.errors import InputError


class LayerWeights(nn.Module):
    """Base class.

    Args:
        num_layers: Layers to weigh.
        num_tasks: Tasks in the table.
        summary_size: Width V of the prompt's summary.
        last_bias: Where the learned logits start: this for the last layer, 0 for the others.
        temperature: Divides the logits.
    """

    start: Tensor

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if temperature <= 0.0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.num_layers, self.num_tasks, self.temperature = num_layers, num_tasks, temperature
        start = torch.zeros(num_layers)
        start[-1] = last_bias
        self.register_buffer("start", start, persistent=False)

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Unnormalised weights (B, layers) for ``prompt_summary`` (B, V) and ``task`` (B,)."""
        raise NotImplementedError

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """``prompt_summary`` (B, V), ``task`` (B,) -> weights (B, layers), ``softmax(logits / temperature)``."""
        return (self.logits(prompt_summary, task) / self.temperature).softmax(-1)


class SharedWeights(LayerWeights):
    """One learned vector for everything: ``softmax(w)``, the published formula (arXiv 2509.18570).

    Example:
        >>> SharedWeights(2, 1, 8)(torch.zeros(1, 8), torch.tensor([0])).tolist()
        [[0.5, 0.5]]
    """

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        self.weight = nn.Parameter(self.start.clone())

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """The same row for all: (B, layers)."""
        return self.weight.expand(task.size(0), -1)


class PerTaskWeights(LayerWeights):
    """One learned vector a task: ``softmax(w_task)``."""

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        self.weight = nn.Parameter(self.start.repeat(num_tasks, 1))

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """The task's row: (B, layers)."""
        return self.weight[task]


class PromptWeights(LayerWeights):
    """From the prompt: ``softmax((MLP(q) + b) / tau)``.

    The summary is normalised and the MLP's last layer starts at zero, so that training starts from ``b`` and does not
    collapse onto one layer.
    """

    def __init__(
        self, num_layers: int, num_tasks: int, summary_size: int, last_bias: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(num_layers, num_tasks, summary_size, last_bias, temperature)
        last = nn.Linear(summary_size, num_layers)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(self.start)
        self.mlp = nn.Sequential(nn.LayerNorm(summary_size), nn.Linear(summary_size, summary_size), nn.GELU(), last)

    def logits(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """``MLP(q) + b``, b the last layer's bias: (B, layers)."""
        return self.mlp(prompt_summary)


class LastWeights(LayerWeights):
    """The last layer alone."""

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """One-hot rows, whatever ``prompt_summary`` (B, V) and ``task`` (B,): (B, layers)."""
        return torch.eye(self.num_layers, device=task.device)[-1].expand(task.size(0), -1)


class UniformWeights(LayerWeights):
    """All layers alike."""

    def forward(self, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """Equal weights, whatever ``prompt_summary`` (B, V) and ``task`` (B,): (B, layers)."""
        return self.start.new_full((task.size(0), self.num_layers), 1.0 / self.num_layers)


def weighted_sum(states: Iterable[Tensor], weights: Tensor) -> Tensor:
    """``sum_i w_i S_i``: ``states`` layers x (B, X, D), ``weights`` (B, layers) -> (B, X, D).

    The sum is taken as the states come, in the weights' precision.

    Example:
        >>> weighted_sum([torch.zeros(1, 1, 1), torch.ones(1, 1, 1)], torch.tensor([[0.25, 0.75]])).item()
        0.75

    Raises:
        ValueError: if there are not as many states as weights.
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
