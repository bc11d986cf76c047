"""Iterator factory for ESPnet over the task schedule: batch-interleaved training (HarmoniFuse, arXiv 2509.18570).

The order of batches is a pure function of (seed, epoch), so that a resumed training gets the same batches as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from torch.utils.data import DataLoader

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.schedule import ORDERS, Batch, TaskBatches, build_pattern, min_task_utterances


class TaskIterFactory(AbsIterFactory):
    """Build the data loader of each epoch, for ``iterator_type: task``.

    Args:
        streams: Batches of each task, before they are split over the ranks.
        pattern: As in :func:`harmonifuse_espnet.data.schedule.build_pattern`. Tasks of weight 0 are left out of
            training and validation.
        steps: Batches in an epoch; None for the number of batches of all tasks, rounded up to a multiple of the
            pattern's length and of ``accum_grad``.
        loader: Arguments of ESPnet's ``SequenceIterFactory``: dataset, seed, num_workers, collate_fn, pin_memory.
        shuffle: False to use every batch of every task once, in order (validation).
        rank: Rank of this process among ``world_size``: it gets every ``world_size``-th utterance of each batch.
        world_size: Number of processes that train together.
        accum_grad: Batches per optimizer step (gradient accumulation). Every step must have all tasks in the pattern's
            proportion, and every epoch a whole number of steps.
        order: ``interleaved``: one task per batch, by the pattern; ``sequential``: batches of an epoch sorted by task;
            ``mixed``: every batch has every task.

    Raises:
        InputError: if the order is unknown, a batch has too few utterances for all processes, ``accum_grad`` is not a
            multiple of the pattern's length (interleaved), or ``steps`` is not a multiple of ``accum_grad``.
    """

    def __init__(
        self,
        streams: Mapping[str, TaskBatches],
        pattern: str | Mapping[str, int],
        steps: int | None,
        loader: Mapping[str, Any],
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        accum_grad: int = 1,
        order: str = "interleaved",
    ) -> None:
        if order not in ORDERS:
            raise InputError(f"unknown task_order {order!r}; choose from {', '.join(ORDERS)}")
        self.loader, self.shuffle, self.order = loader, shuffle, order
        self.rank, self.world_size = rank, world_size
        self.pattern = build_pattern(pattern, streams)
        self.streams = {task: stream for task, stream in streams.items() if task in self.pattern}
        total = sum(len(batches) for batches in self.streams.values())
        _check_accumulation(accum_grad, self.pattern, steps, order)
        unit = math.lcm(accum_grad, len(self.pattern))
        self.steps = steps or math.ceil(total / unit) * unit
        for task, stream in self.streams.items():
            smallest = min_task_utterances(task, stream, self.pattern, order if shuffle else "interleaved")
            if smallest < world_size:
                raise InputError(
                    f"--task_order {order}: a batch can have only {smallest} utterances of task {task} for "
                    f"{world_size} processes; use larger batches (task_batches) or fewer processes"
                )

    def batches(self, epoch: int) -> list[Batch]:
        """Return this rank's batches of an epoch, counted from 1."""
        if self.shuffle:
            batches = ORDERS[self.order](self.pattern, self.streams, (epoch - 1) * self.steps, self.steps)
        else:
            batches = [batch for stream in self.streams.values() for batch in stream.batches]
        return [batch[self.rank :: self.world_size] for batch in batches]

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """Return the data loader of an epoch, which gives (utterance ids, batch)."""
        return SequenceIterFactory(batches=self.batches(epoch), shuffle=False, **self.loader).build_iter(epoch)


def _check_accumulation(accum_grad: int, pattern: Sequence[str], steps: int | None, order: str) -> None:
    """Check that every optimizer step has the tasks in the pattern's proportion, and that epochs have whole steps.

    Mixed batches always have this proportion; sequential training does not need it.
    """
    if order == "interleaved" and accum_grad > 1 and accum_grad % len(pattern):
        raise InputError(
            f"--accum_grad {accum_grad} is not a multiple of {len(pattern)}, the length of the pattern "
            f"{_summarize(pattern)}: optimizer steps would have the tasks in different proportions; use "
            f"{_nearest_multiples(accum_grad, len(pattern))}"
        )
    if steps is not None and steps % accum_grad:
        raise InputError(
            f"--num_iters_per_epoch {steps} is not a multiple of --accum_grad {accum_grad}: ESPnet would carry the "
            f"gradients of the last {steps % accum_grad} batches over to the next epoch; use "
            f"{_nearest_multiples(steps, accum_grad)}"
        )


def _nearest_multiples(value: int, unit: int) -> str:
    """Return the multiples of ``unit`` below and above ``value``."""
    below = value // unit * unit
    return f"{below} or {below + unit}" if below else str(unit)


def _summarize(pattern: Sequence[str]) -> str:
    """Return the pattern if it is short, else the count of each task."""
    counts = {task: pattern.count(task) for task in dict.fromkeys(pattern)}
    return ",".join(pattern) if len(pattern) <= 12 else str(counts)
