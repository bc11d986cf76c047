"""ESPnet's trainer, with a validation loss and accuracy in which every task counts the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter, SubReporter, aggregate, to_reported_value
from espnet2.train.trainer import Trainer, TrainerOptions
from torch.optim.lr_scheduler import OneCycleLR

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import atomic_path
from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.train.checkpoints import CHECKPOINT, is_complete, require_epochs

POOLED = ("loss", "acc")  # statistics of all tasks together


class HarmoniFuseTrainer(Trainer):
    """ESPnet's trainer; ``best_model_criterion`` and early stopping use the mean over the tasks.

    ESPnet pools a validation statistic over all utterances, so that the task with the largest validation set would
    choose the best model.
    """

    @classmethod
    def run(
        cls,
        schedulers: Sequence[Any],
        train_iter_factory: TaskIterFactory,
        trainer_options: TrainerOptions,
        distributed_option: DistributedOption,
        **others: Any,
    ) -> None:
        """Check what would fail only after hours of training, then train.

        Raises:
            InputError: if a scheduler ends before the training, or the weights of an epoch are truncated.
            MissingFileError: if the weights of one of the best epochs are missing.
        """
        for scheduler in schedulers:
            check_total_steps(scheduler, trainer_options, train_iter_factory.steps)
        checkpoint = Path(trainer_options.output_dir) / CHECKPOINT
        is_first = not distributed_option.distributed or distributed_option.dist_rank == 0
        if trainer_options.resume and checkpoint.exists() and is_first:
            check_best_epochs(checkpoint, trainer_options)
        super().run(
            schedulers=schedulers,
            train_iter_factory=train_iter_factory,
            trainer_options=trainer_options,
            distributed_option=distributed_option,
            **others,
        )

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


def check_total_steps(scheduler: Any, options: TrainerOptions, steps: int) -> None:
    """Check that onecyclelr, which has a fixed number of steps, does not end before the training does.

    Args:
        scheduler: Any scheduler, or None.
        options: Options of the trainer.
        steps: Batches of an epoch.

    Raises:
        InputError: if the training has more optimizer updates; the message has both numbers.
    """
    if not isinstance(scheduler, OneCycleLR):
        return
    updates = options.max_epoch * (steps // options.accum_grad)
    if updates > scheduler.total_steps:
        fitting = scheduler.total_steps // (steps // options.accum_grad)
        raise InputError(
            f"scheduler_conf: onecyclelr has {scheduler.total_steps} total_steps, but the training has {updates} "
            f"optimizer updates (max_epoch {options.max_epoch} x {steps} steps / accum_grad {options.accum_grad}); set "
            f"total_steps: {updates}, or max_epoch: {fitting}"
        )


def check_best_epochs(checkpoint: Path, options: TrainerOptions) -> None:
    """Check that the weights of the best epochs so far exist; restore those of the last epoch from the checkpoint.

    A training that is interrupted while it writes the weights of an epoch has already written the checkpoint.

    Raises:
        InputError: if the weights of an epoch are truncated.
        MissingFileError: if the weights of an epoch are missing.
    """
    states = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)  # tensors are read when used
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    last = checkpoint.parent / f"{reporter.get_epoch()}epoch.pth"
    if not last.is_file() or not is_complete(last):
        with atomic_path(last) as temporary:
            torch.save(states["model"], temporary)
        logging.warning(f"{last}: restored from {checkpoint}")
    keep = options.keep_nbest_models
    count = keep if isinstance(keep, int) else max(keep, default=1)
    criteria = [criterion for criterion in options.best_model_criterion if reporter.has(*criterion[:2])]
    require_epochs(checkpoint.parent, {epoch for each in criteria for epoch in reporter.sort_epochs(*each)[:count]})
