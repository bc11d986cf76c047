"""Component gates: select the linguistic and the paralinguistic components of the encoder output by task.

Two projections of the weighted encoder layers, a linguistic and a paralinguistic one, are mixed by a gate computed from
the task's prompt and the frame. HarmoniFuse (arXiv 2509.18570) names the component-selective encoder; the formula
is ours. Layer weights are in ``layer_weights.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask


class Projection(nn.Module):
    """No gate: one projection of the weighted layers, ``z_t = A(h_t)``."""

    def __init__(self, input_size: int, output_size: int, summary_size: int, num_tasks: int) -> None:
        super().__init__()
        self.linguistic = nn.Linear(input_size, output_size)

    def gate(self, hidden: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor | None:
        """Return None for ``hidden`` (B, T, D), ``prompt_summary`` (B, V), ``task`` (B,), because there is no gate."""
        return None

    def forward(
        self,
        hidden: Tensor,
        lengths: Tensor,
        prompt_summary: Tensor,
        task: Tensor,
        rows: Mapping[int, Tensor],
    ) -> Tensor:
        """``hidden`` (B, T, D), ``lengths`` (B,), ``prompt_summary`` (B, V), ``task`` (B,) -> (B, T, C).

        ``rows``: see :class:`harmonifuse_espnet.data.batch.SpeechBatch`.
        """
        return self.linguistic(hidden)

    def activation_bytes(self, frames: int) -> int:
        """Estimate the bytes kept for backward: ``B T (3 D + 8 C) 4``, with ``frames`` = B T.

        It is for gates with two projections, and an upper bound for one projection.
        """
        return 4 * (3 * self.linguistic.in_features + 8 * self.linguistic.out_features) * frames


class PromptGate(Projection):
    """``z_t = g_t * A(h_t) + (1 - g_t) * B(h_t, stats)``, ``g_t = sigmoid(W [h_t; q])``.

    q is the mean of the prompt's embeddings. ``stats`` are the mean and standard deviation of h over the valid frames
    of the utterance, which depend on the voice more than on the words. They are normalised by :class:`TaskNorm`,
    because they vary little between utterances relative to their values.
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
        """Return g, in 0 (paralinguistic) to 1 (linguistic): (B, T, C)."""
        return torch.sigmoid(self.gate_hidden(hidden) + self.gate_prompt(self.prompt_norm(prompt_summary))[:, None])

    def forward(
        self,
        hidden: Tensor,
        lengths: Tensor,
        prompt_summary: Tensor,
        task: Tensor,
        rows: Mapping[int, Tensor],
    ) -> Tensor:
        """``hidden`` (B, T, D), ``lengths`` (B,), ``prompt_summary`` (B, V), ``task`` (B,) -> (B, T, C).

        ``rows``: see :class:`harmonifuse_espnet.data.batch.SpeechBatch`.
        """
        stats = self.stats_norm(utterance_stats(hidden, lengths), rows)
        paralinguistic = self.paralinguistic(hidden) + self.paralinguistic_stats(stats)[:, None]
        gate = self.gate(hidden, prompt_summary, task)
        return gate * self.linguistic(hidden) + (1.0 - gate) * paralinguistic


class TaskGate(PromptGate):
    """:class:`PromptGate` with a learned vector per task instead of the prompt's summary q."""

    def __init__(self, input_size: int, output_size: int, summary_size: int, num_tasks: int) -> None:
        super().__init__(input_size, output_size, summary_size, num_tasks)
        self.task_embedding = nn.Embedding(num_tasks, summary_size)

    def gate(self, hidden: Tensor, prompt_summary: Tensor, task: Tensor) -> Tensor:
        """As in :class:`PromptGate`, from the task's vector: (B, T, C)."""
        return super().gate(hidden, self.task_embedding(task), task)


class TaskNorm(nn.Module):
    """Batch normalisation of each task separately, without scale and shift: (B, X) -> (B, X).

    Domain-specific batch normalisation (Chang et al., 2019, arXiv:1906.03950), because the corpora of the tasks differ
    in acoustics. In training, if the batch has fewer than ``MIN_ROWS`` utterances of a task (a small batch per GPU),
    they are normalised by the running statistics, as in decoding.

    Example:
        >>> norm, rows = TaskNorm(1, num_tasks=2), {0: torch.arange(0, 16), 1: torch.arange(16, 32)}
        >>> values = torch.tensor([[1.0], [3.0]] * 8 + [[10.0], [30.0]] * 8)
        >>> norm(values, rows).round()[[0, 1, 16, 17], 0].tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """

    MIN_ROWS = 8

    def __init__(self, size: int, num_tasks: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(size, affine=False) for _ in range(num_tasks)])

    def forward(self, values: Tensor, rows: Mapping[int, Tensor]) -> Tensor:
        """``values`` (B, X), ``rows``: task index -> its rows in the batch -> (B, X)."""
        normalised = torch.empty_like(values)
        for task, task_rows in rows.items():
            norm, own = cast(nn.BatchNorm1d, self.norms[task]), values[task_rows]
            if self.training and len(task_rows) > 1:  # the variance of one utterance is undefined
                normalised[task_rows] = norm(own)
            if not self.training or len(task_rows) < self.MIN_ROWS:
                normalised[task_rows] = F.batch_norm(own, norm.running_mean, norm.running_var)
        return normalised


def utterance_stats(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return mean and standard deviation over the valid frames: ``hidden`` (B, T, D), ``lengths`` (B,) -> (B, 2 D).

    Example:
        >>> utterance_stats(torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([2])).round().tolist()
        [[2.0, 1.0]]
    """
    mask = length_mask(lengths, hidden.size(1))[..., None]
    count = lengths[:, None].clamp(min=1).to(hidden.dtype)
    mean = (hidden * mask).sum(1) / count
    variance = ((hidden - mean[:, None]).square() * mask).sum(1) / count
    return torch.cat([mean, (variance + 1.0e-5).sqrt()], dim=-1)
