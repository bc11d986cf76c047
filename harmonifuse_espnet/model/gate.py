"""Component gates: which part of what the encoder encoded a task gets to see.

Two projections of the weighted encoder layers, a linguistic and a paralinguistic one, mixed by a gate computed from the
task's prompt and the frame. HarmoniFuse (arXiv 2509.18570) names the component-selective encoder; this form is ours.
The weighting of the layers before it is in ``layer_weights.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask


class Projection(nn.Module):
    """No gate: one projection of the selected layers, ``z_t = A(h_t)``."""

    def __init__(self, input_size: int, output_size: int, summary_size: int, num_tasks: int) -> None:
        super().__init__()
        self.linguistic = nn.Linear(input_size, output_size)

    def gate(self, hidden: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor | None:
        """None for ``hidden`` (B, T, D), ``prompt_summary`` (B, V), ``task`` (B,): there is nothing to mix."""
        return None

    def forward(self, hidden: Tensor, lengths: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """``hidden`` (B, T, D), ``lengths`` (B,), ``prompt_summary`` (B, V), ``task`` (B,) -> (B, T, C)."""
        return self.linguistic(hidden)


class PromptGate(Projection):
    """``z_t = g_t * A(h_t) + (1 - g_t) * B(h_t, stats)``, ``g_t = sigmoid(W [h_t; q])``, q the prompt's summary.

    ``stats`` are mean and standard deviation of h over the valid frames of the utterance: what a voice is like, apart
    from what it says. They are normalised over utterances, since utterances differ by little of what they amount to.
    """

    def __init__(self, input_size: int, output_size: int, summary_size: int, num_tasks: int) -> None:
        super().__init__(input_size, output_size, summary_size, num_tasks)
        self.paralinguistic = nn.Linear(input_size, output_size)
        self.stats_norm = TaskNorm(2 * input_size, num_tasks)
        self.paralinguistic_stats = nn.Linear(2 * input_size, output_size, bias=False)
        self.prompt_norm = nn.LayerNorm(summary_size)
        self.gate_hidden = nn.Linear(input_size, output_size)
        self.gate_prompt = nn.Linear(summary_size, output_size, bias=False)

    def gate(self, hidden: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """How linguistic each frame's components are, in 0 to 1: (B, T, C)."""
        return torch.sigmoid(self.gate_hidden(hidden) + self.gate_prompt(self.prompt_norm(prompt_summary))[:, None])

    def forward(self, hidden: Tensor, lengths: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """``hidden`` (B, T, D), ``lengths`` (B,), ``prompt_summary`` (B, V), ``task`` (B,) -> (B, T, C)."""
        stats = self.stats_norm(utterance_stats(hidden, lengths), task)
        paralinguistic = self.paralinguistic(hidden) + self.paralinguistic_stats(stats)[:, None]
        gate = self.gate(hidden, prompt_summary, task)
        return gate * self.linguistic(hidden) + (1.0 - gate) * paralinguistic


class TaskGate(PromptGate):
    """The same mixture with a learned vector a task in the place of the prompt's summary."""

    def __init__(self, input_size: int, output_size: int, summary_size: int, num_tasks: int) -> None:
        super().__init__(input_size, output_size, summary_size, num_tasks)
        self.task_embedding = nn.Embedding(num_tasks, summary_size)

    def gate(self, hidden: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """As in :class:`PromptGate`, from the task's vector: (B, T, C)."""
        return super().gate(hidden, self.task_embedding(task), task)


class TaskNorm(nn.Module):
    """Batch normalisation of each task by itself, without scale and shift: (B, S) -> (B, S).

    Domain-specific batch normalisation (Chang et al., 2019, arXiv:1906.03950): tasks learn from corpora that sound
    unlike each other, and statistics of all would fit none of them. In training, fewer than ``ENOUGH`` utterances of a
    task in a batch, as where many GPUs share it, are normalised by the running statistics, as in decoding.

    Example:
        >>> norm, task = TaskNorm(1, num_tasks=2), torch.tensor([0, 0, 1, 1] * 8)
        >>> norm(torch.tensor([[1.0], [3.0], [10.0], [30.0]] * 8), task).round()[:4, 0].tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """

    ENOUGH = 8

    def __init__(self, size: int, num_tasks: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(size, affine=False) for _ in range(num_tasks)])

    def forward(self, values: Tensor, task: Tensor) -> Tensor:
        """``values`` (B, S), ``task`` (B,) -> (B, S)."""
        normalised = torch.empty_like(values)
        for index in task.unique().tolist():
            chosen, norm = task == index, self.norms[index]
            rows = values[chosen]
            if self.training and len(rows) > 1:  # one has no deviation to learn from
                normalised[chosen] = norm(rows)
            if not self.training or len(rows) < self.ENOUGH:
                normalised[chosen] = F.batch_norm(rows, norm.running_mean, norm.running_var)
        return normalised


def utterance_stats(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Mean and standard deviation over the valid frames: ``hidden`` (B, T, D), ``lengths`` (B,) -> (B, 2 D).

    Example:
        >>> utterance_stats(torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([2])).round().tolist()
        [[2.0, 1.0]]
    """
    mask = length_mask(lengths, hidden.size(1))[..., None]
    count = lengths[:, None].clamp(min=1).to(hidden.dtype)
    mean = (hidden * mask).sum(1) / count
    variance = ((hidden - mean[:, None]).square() * mask).sum(1) / count
    return torch.cat([mean, (variance + 1.0e-5).sqrt()], dim=-1)
