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
        steps = train_iter_factory.steps
        for scheduler in schedulers:
            if isinstance(scheduler, OneCycleLR):
                check_total_steps(scheduler.total_steps, "scheduler_conf", trainer_options, steps)
        checkpoint = Path(trainer_options.output_dir) / CHECKPOINT
        is_first = not distributed_option.distributed or distributed_option.dist_rank == 0
        if trainer_options.resume and checkpoint.exists() and is_first:
            check_resumable(checkpoint, schedulers, trainer_options, steps)
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


def check_total_steps(total_steps: int, where: str, options: TrainerOptions, steps: int) -> None:
    """Check that onecyclelr, which has a fixed number of steps, does not end before the training does.

    Args:
        total_steps: Steps of the scheduler.
        where: Option or file that has this number, for the error message.
        options: Options of the trainer.
        steps: Batches of an epoch.

    Raises:
        InputError: if the training has more optimizer updates; the message has both numbers.
    """
    updates = options.max_epoch * (steps // options.accum_grad)
    if updates > total_steps:
        fitting = total_steps // (steps // options.accum_grad)
        longer = (
            f"train in another folder (in run.sh: --tag) with total_steps: {updates}"
            if where.endswith(CHECKPOINT)  # its scheduler replaces that of the configuration
            else f"set total_steps: {updates}"
        )
        raise InputError(
            f"{where}: onecyclelr has {total_steps} total_steps, but the training has {updates} optimizer updates "
            f"(max_epoch {options.max_epoch} x {steps} steps / accum_grad {options.accum_grad}); {longer}, or set "
            f"max_epoch: {fitting}"
        )


def check_resumable(checkpoint: Path, schedulers: Sequence[Any], options: TrainerOptions, steps: int) -> None:
    """Check that a checkpoint can be resumed: its scheduler, and the weights of the best epochs so far.

    The weights of the last epoch are restored from the checkpoint if they are truncated or missing: a training that is
    interrupted while it writes them has already written the checkpoint.

    Raises:
        InputError: if the scheduler ends before the training, or the weights of an epoch are truncated.
        MissingFileError: if the weights of an epoch are missing.
    """
    states = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)  # tensors are read when used
    for scheduler, state in zip(schedulers, states["schedulers"], strict=False):
        if isinstance(scheduler, OneCycleLR) and state and "total_steps" in state:
            check_total_steps(state["total_steps"], str(checkpoint), options, steps)
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
