"""ESPnet's trainer, with a validation loss and accuracy in which every task counts the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from espnet2.train.reporter import SubReporter, aggregate, to_reported_value
from espnet2.train.trainer import Trainer

POOLED = ("loss", "acc")  # statistics of all tasks together


class HarmoniFuseTrainer(Trainer):
    """ESPnet's trainer; ``best_model_criterion`` and early stopping use the mean over the tasks.

    ESPnet pools a validation statistic over all utterances, so that the task with the largest validation set would
    choose the best model.
    """

    @classmethod
    @torch.no_grad()
    def validate_one_epoch(cls, reporter: SubReporter, **others: Any) -> None:
        """Validate, and replace ``loss`` and ``acc`` by their means over the tasks."""
        super().validate_one_epoch(reporter=reporter, **others)
        average_over_tasks(reporter)


def average_over_tasks(reporter: SubReporter) -> None:
    """Replace each statistic in ``POOLED`` by the mean of its averages over each task's batches.

    A validation batch has one task, the one whose accuracy ``acc_<task>`` it reports.

    Example:
        >>> reporter = SubReporter("valid", epoch=1, total_count=0)
        >>> for task, acc, size in (("asr", 0.9, 30), ("ser", 0.5, 10)):
        ...     reporter.register({"acc": acc, f"acc_{task}": acc, "loss": 1.0 - acc}, size)
        ...     reporter.next()
        >>> average_over_tasks(reporter)
        >>> aggregate(reporter.stats["acc"])
        0.7
    """
    of_tasks = [values for name, values in reporter.stats.items() if name.startswith("acc_")]
    batches = [[number for number, value in enumerate(of_task) if np.isfinite(value.value)] for of_task in of_tasks]
    for name in POOLED:
        values = reporter.stats[name]
        means = [aggregate([values[number] for number in numbers]) for numbers in batches]
        reporter.stats[name] = [to_reported_value(float(np.mean(means)), 1)] * reporter.count
