"""Task-specific outputs: the language model's head for text; that head, a classifier or both for labels.

HarmoniFuse (arXiv 2509.18570) names the outputs; the formulas are ours. The input is F, the fused states of
``fusion.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.model.fusion import LayerFusion
from harmonifuse_espnet.model.splice import IGNORE, Spliced

Rows = Mapping[int, Tensor]  # task index -> rows of its utterances in the batch


@dataclass(frozen=True)
class LMOutput:
    """Hidden states of the language model for a batch, and their fusion.

    Attributes:
        spliced: The input of the language model.
        states: Output of every layer, M x (B, S, V).
        fusion: The fusion of the layers.
        beta: Weights of the layers (B, M).
    """

    spliced: Spliced
    states: Sequence[Tensor]
    fusion: LayerFusion
    beta: Tensor

    def fused(self, row: Tensor, column: Tensor) -> Tensor:
        """Return F at chosen positions: ``row`` (X,), ``column`` (X,) -> (X, V)."""
        return self.fusion([state[row, column, None] for state in self.states], self.beta[row])[:, 0]

    def pooled(self, row: Tensor) -> Tensor:
        """Average F over the positions before the target, for utterances ``row`` (R,): (R, V) in float32.

        The language model is causal, so that training (with targets) and decoding (without) have the same mean.
        """
        mask = (self.spliced.mask & (self.spliced.labels == IGNORE))[row, :, None]
        fused = self.fusion([state[row] for state in self.states], self.beta[row]).float()
        return fused.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)


class Predictions(NamedTuple):
    """Predictions of X targets (tokens or labels) in a training step.

    Attributes:
        tasks: Indices of the tasks of the targets.
        row: Row of each target's utterance in the batch (X,).
        loss: Cross entropy in nats (X,).
        correct: Whether the most probable class is the target (X,).
        in_accuracy: Whether the accuracy includes the target (X,).
    """

    tasks: tuple[int, ...]
    row: Tensor
    loss: Tensor
    correct: Tensor
    in_accuracy: Tensor


def predict_tokens(
    lm_output: LMOutput, head: Callable[[Tensor], Tensor], label_smoothing: float, tasks: Iterable[int]
) -> Predictions:
    """Predict every target token with ``head``, (X, V) -> (X, W).

    The accuracy does not include eos. ``tasks`` are the tasks with target tokens.
    """
    labels = lm_output.spliced.labels[:, 1:]
    row, column = torch.nonzero(labels != IGNORE, as_tuple=True)
    target = labels[row, column]
    logits = head(lm_output.fused(row, column)).float()  # only at target positions
    loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    in_accuracy = torch.zeros_like(row, dtype=torch.bool)
    in_accuracy[:-1] = row[1:] == row[:-1]
    return Predictions(tuple(tasks), row, loss, logits.argmax(-1) == target, in_accuracy)


class LabelOutput(nn.Module):
    """Base class of label prediction: one of the K labels of a task.

    Args:
        num_labels: K of each task in the table, 0 for text tasks.
        size: Width V of the fused states.

    Attributes:
        generated: Whether the language model is trained to generate the label's text.
    """

    generated = True

    def __init__(self, num_labels: Sequence[int], size: int) -> None:
        super().__init__()
        self.label_tasks = tuple(task for task, count in enumerate(num_labels) if count)

    def token_tasks(self, rows: Rows) -> tuple[int, ...]:
        """Return the tasks in the batch whose targets the language model generates."""
        return tuple(task for task in rows if self.generated or task not in self.label_tasks)

    def target_lengths(self, lengths: Tensor, label: Tensor) -> Tensor:
        """Return the number of target tokens of each utterance (B,); ``label`` (B,) is -1 for text tasks."""
        return lengths if self.generated else lengths.masked_fill(label >= 0, 0)

    def fused_positions(self, targets: int, positions: int) -> int:
        """Return the number of positions at which the states are fused: ``targets``, or all ``positions``."""
        return targets

    def forward(self, lm_output: LMOutput, rows: Rows, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """Predict the labels that are not generated; ``label`` (B,) is -1 for text tasks."""
        raise NotImplementedError

    def log_probs(self, lm_output: LMOutput, task: int, score_labels: Callable[[], Tensor]) -> Tensor:
        """Return the log-probability of every label of one task, normalised over the labels.

        Args:
            lm_output: Of B utterances of this task, without targets.
            task: The task's index.
            score_labels: Function that runs the model to score the tokens of every label: log-probabilities (B, K).

        Returns:
            Log-probabilities (B, K).
        """
        raise NotImplementedError


class TextOutput(LabelOutput):
    """Generated labels: ``p(k) = p(tokens of k) / sum_j p(tokens of j)``."""

    def forward(self, lm_output: LMOutput, rows: Rows, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """Return []: all labels are generated, whatever ``label`` (B,)."""
        return []

    def log_probs(self, lm_output: LMOutput, task: int, score_labels: Callable[[], Tensor]) -> Tensor:
        """Normalise the log-probabilities of the labels' tokens: (B, K)."""
        return score_labels().log_softmax(-1)


class HeadOutput(LabelOutput):
    """Classified labels: a linear classifier for each task, ``p = softmax(W_task mean_s F_s + c_task)``.

    The mean is over the positions s before the target. The language model does not generate labels.

    Args:
        num_labels: K of each task in the table, 0 for text tasks.
        size: Width V of the fused states.
        dropout: Dropout on the pooled states.

    Example:
        >>> output = HeadOutput([0, 4, 2], 32)
        >>> {task: tuple(head.weight.shape) for task, head in output.heads.items()}
        {'1': (4, 32), '2': (2, 32)}
    """

    generated = False

    def __init__(self, num_labels: Sequence[int], size: int, dropout: float = 0.0) -> None:
        super().__init__(num_labels, size)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({str(task): nn.Linear(size, num_labels[task]) for task in self.label_tasks})

    def fused_positions(self, targets: int, positions: int) -> int:
        """Return ``positions``: the classifier pools the fused states of all positions."""
        return positions

    def logits(self, lm_output: LMOutput, row: Tensor, task: int) -> Tensor:
        """Classify the utterances ``row`` (R,) of one task: (R, K)."""
        return self.heads[str(task)](self.dropout(lm_output.pooled(row))).float()

    def forward(self, lm_output: LMOutput, rows: Rows, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """Predict the labels ``label`` (B,) of each label task in the batch."""
        predictions = []
        for task, row in rows.items():
            if task in self.label_tasks:
                logits, target = self.logits(lm_output, row, task), label[row]
                loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
                in_accuracy = torch.ones_like(row, dtype=torch.bool)
                predictions.append(Predictions((task,), row, loss, logits.argmax(-1) == target, in_accuracy))
        return predictions

    def log_probs(self, lm_output: LMOutput, task: int, score_labels: Callable[[], Tensor]) -> Tensor:
        """Return the classifier's log-probabilities: (B, K)."""
        rows = torch.arange(len(lm_output.beta), device=lm_output.beta.device)
        return self.logits(lm_output, rows, task).log_softmax(-1)


class BothOutput(HeadOutput):
    """Generated and classified labels: the losses are added, the probabilities multiplied and normalised."""

    generated = True

    def log_probs(self, lm_output: LMOutput, task: int, score_labels: Callable[[], Tensor]) -> Tensor:
        """Return the normalised sum of both log-probabilities: (B, K)."""
        return (super().log_probs(lm_output, task, score_labels) + score_labels()).log_softmax(-1)


class TaskLoss(NamedTuple):
    """A task's ``loss`` in nats and its accuracy ``acc`` in a training step, scalars."""

    loss: Tensor
    acc: Tensor


def loss_by_task(rows: Rows, predictions: Sequence[Predictions], size: int) -> dict[int, TaskLoss]:
    """Return each task's loss, the sum of its mean losses in ``predictions``, and its accuracy in the last of them.

    Args:
        rows: Task index -> its rows in the batch.
        predictions: Predictions of tokens, then of classified labels.
        size: Utterances in the batch, B.

    Example:
        >>> row, mask = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.bool)
        >>> tokens = Predictions((3,), row, torch.tensor([1.0, 2.0]), torch.tensor([True, False]), mask)
        >>> loss_by_task({3: torch.tensor([0])}, [tokens], size=1)
        {3: TaskLoss(loss=tensor(1.5000), acc=tensor(0.5000))}
    """
    losses = {}
    for task, task_rows in rows.items():
        own = [(part, _task_mask(part, task_rows, size)) for part in predictions if task in part.tasks]
        last, weight_of_last = own[-1]
        loss = torch.stack([_mean(part.loss, weight) for part, weight in own]).sum()
        losses[task] = TaskLoss(loss, _mean(last.correct, weight_of_last * last.in_accuracy))
    return losses


def _task_mask(part: Predictions, task_rows: Tensor, size: int) -> Tensor:
    """Return 1.0 for the targets of the utterances ``task_rows`` (R,), 0.0 for the others: (X,)."""
    if len(part.tasks) == 1:
        return torch.ones_like(part.loss)
    return part.loss.new_zeros(size).index_fill(0, task_rows, 1.0)[part.row]


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Average ``values`` (X,) where ``weight`` (X,) is 1."""
    return (values * weight).sum() / weight.sum()
