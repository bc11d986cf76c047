"""Task-specific outputs: text by the language model's head over the fused states, labels by that head, by a classifier,
or by both.

HarmoniFuse (arXiv 2509.18570) names the outputs; these forms are ours. All read F, the fused states of ``fusion.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonifuse_espnet.model.fusion import LayerFusion
from harmonifuse_espnet.model.splice import IGNORE, Spliced


@dataclass(frozen=True)
class LMOutput:
    """What the language model made of a batch.

    Attributes:
        spliced: What it read.
        states: M x (B, S, V), the output of every layer.
        fusion: What joins them.
        beta: The fusion's weights (B, M).
    """

    spliced: Spliced
    states: Sequence[Tensor]
    fusion: LayerFusion
    beta: Tensor

    def fused(self, row: Tensor, column: Tensor) -> Tensor:
        """F at chosen positions: ``row`` (X,), ``column`` (X,) -> (X, V)."""
        return self.fusion([state[row, column, None] for state in self.states], self.beta[row])[:, 0]

    def pooled(self, row: Tensor) -> Tensor:
        """The mean of F over the positions before the answer, for utterances ``row`` (R,): (R, V) in float32.

        The language model is causal: the mean is the same whether an answer follows, as in training, or not.
        """
        mask = (self.spliced.mask & (self.spliced.labels == IGNORE))[row, :, None]
        fused = self.fusion([state[row] for state in self.states], self.beta[row]).float()
        return fused.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)


class Predictions(NamedTuple):
    """What was asked in a step, X tokens or labels, and how well it was answered.

    Attributes:
        row: The utterance of each (X,).
        loss: Cross entropy in nats (X,).
        hit: Whether the most probable one was the right one (X,).
        counted: Whether it counts for the accuracy (X,).
    """

    row: Tensor
    loss: Tensor
    hit: Tensor
    counted: Tensor


def predict_tokens(lm_output: LMOutput, head: Callable[[Tensor], Tensor], label_smoothing: float) -> Predictions:
    """Every token of every spoken answer by ``head``, (X, V) -> (X, W); the end of sequence is not counted."""
    labels = lm_output.spliced.labels[:, 1:]
    row, column = torch.nonzero(labels != IGNORE, as_tuple=True)
    target = labels[row, column]
    logits = head(lm_output.fused(row, column)).float()  # elsewhere nothing is asked
    loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    counted = torch.zeros_like(row, dtype=torch.bool)
    counted[:-1] = row[1:] == row[:-1]
    return Predictions(row, loss, logits.argmax(-1) == target, counted)


class LabelOutput(nn.Module):
    """Base class: how tasks answer with one of K labels.

    Args:
        num_labels: K of each task in the table, 0 for a task that answers with text.
        size: Width V of the fused states.

    Attributes:
        spoken: Whether the language model says a label's words, and learns to.
    """

    spoken = True

    def __init__(self, num_labels: Sequence[int], size: int) -> None:
        super().__init__()

    def target_lengths(self, text_lengths: Tensor, label: Tensor) -> Tensor:
        """Answer tokens (B,) for the language model to say; ``label`` (B,) is -1 for a text."""
        return text_lengths if self.spoken else text_lengths.masked_fill(label >= 0, 0)

    def forward(self, lm_output: LMOutput, task: Tensor, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """What is asked beside the words, for ``task`` (B,) and ``label`` (B,), -1 for a text."""
        raise NotImplementedError

    def log_probs(self, lm_output: LMOutput, task: Tensor, score_words: Callable[[], Tensor]) -> Tensor:
        """Log-probability of every label of one task, normalised over the labels.

        Args:
            lm_output: Of B utterances without an answer.
            task: (B,), all the same.
            score_words: Gives the log-probability of every label's words (B, K), at the price of another pass.

        Returns:
            (B, K), each row's exponentials summing to 1.
        """
        raise NotImplementedError


class TextOutput(LabelOutput):
    """A label is its words, said by the language model: ``p(k) = p(words of k) / sum_j p(words of j)``."""

    def forward(self, lm_output: LMOutput, task: Tensor, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """Nothing beside the words, whatever ``task`` (B,) and ``label`` (B,)."""
        return []

    def log_probs(self, lm_output: LMOutput, task: Tensor, score_words: Callable[[], Tensor]) -> Tensor:
        """The words' log-probabilities, normalised: (B, K)."""
        return score_words().log_softmax(-1)


class HeadOutput(LabelOutput):
    """A linear classifier for each task: ``p = softmax(W_task mean_s F_s + c_task)``, s before the answer.

    The language model does not say the labels' words.

    Args:
        num_labels: K of each task in the table, 0 for a task that answers with text.
        size: Width V of the fused states.
        dropout: On the pooled states.

    Example:
        >>> output = HeadOutput([0, 4, 2], 32)
        >>> {task: tuple(head.weight.shape) for task, head in output.heads.items()}
        {'1': (4, 32), '2': (2, 32)}
    """

    spoken = False

    def __init__(self, num_labels: Sequence[int], size: int, dropout: float = 0.0) -> None:
        super().__init__(num_labels, size)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {str(task): nn.Linear(size, count) for task, count in enumerate(num_labels) if count}
        )

    def logits(self, lm_output: LMOutput, row: Tensor, task: int) -> Tensor:
        """For utterances ``row`` (R,) of one task: (R, K)."""
        return self.heads[str(task)](self.dropout(lm_output.pooled(row))).float()

    def forward(self, lm_output: LMOutput, task: Tensor, label: Tensor, label_smoothing: float) -> list[Predictions]:
        """The labels of each task that has some in ``task`` (B,), ``label`` (B,)."""
        predictions = []
        for index in task[label >= 0].unique().tolist():
            row = torch.nonzero(task == index)[:, 0]
            logits, target = self.logits(lm_output, row, index), label[row]
            loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
            predictions.append(Predictions(row, loss, logits.argmax(-1) == target, torch.ones_like(row).bool()))
        return predictions

    def log_probs(self, lm_output: LMOutput, task: Tensor, score_words: Callable[[], Tensor]) -> Tensor:
        """The classifier's log-probabilities: (B, K)."""
        (index,) = task.unique().tolist()
        return self.logits(lm_output, torch.arange(len(task), device=task.device), index).log_softmax(-1)


class BothOutput(HeadOutput):
    """Words and classifier, losses summed, probabilities multiplied: ``p ~ p_text p_head``."""

    spoken = True

    def log_probs(self, lm_output: LMOutput, task: Tensor, score_words: Callable[[], Tensor]) -> Tensor:
        """The sum of both log-probabilities, normalised again: (B, K)."""
        return (super().log_probs(lm_output, task, score_words) + score_words()).log_softmax(-1)


class TaskLoss(NamedTuple):
    """A task's answers in a step: the ``loss`` in nats and the accuracy ``acc``, scalars."""

    loss: Tensor
    acc: Tensor


def loss_by_task(task: Tensor, asked: Sequence[Predictions]) -> dict[int, TaskLoss]:
    """Each task's mean loss, summed over the ways in which it was asked, and its accuracy in the last of them.

    Example:
        >>> zeros, ones = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.bool)
        >>> asked = Predictions(zeros, torch.tensor([1.0, 2.0]), torch.tensor([True, False]), ones)
        >>> loss_by_task(torch.tensor([3]), [asked])
        {3: TaskLoss(loss=tensor(1.5000), acc=tensor(0.5000))}
    """
    answers = {}
    for index in task.unique().tolist():
        chosen = [(part, task[part.row] == index) for part in asked]
        chosen = [(part, mine) for part, mine in chosen if mine.any()]
        last, mine = chosen[-1]
        loss = torch.stack([part.loss[own].mean() for part, own in chosen]).sum()
        answers[index] = TaskLoss(loss, last.hit[mine & last.counted].float().mean())
    return answers
