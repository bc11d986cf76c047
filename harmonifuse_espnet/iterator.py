"""Batch-interleaved training (HarmoniFuse, arXiv 2509.18570): every batch holds one task, and tasks take turns.

The order of batches is a pure function of (seed, epoch), so that a resumed run sees what an uninterrupted one sees.
Each task is an endless stream of its own batches, shuffled anew on every pass; a pattern says whose turn it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence, Sized
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.build_batch_sampler import build_batch_sampler
from torch.utils.data import DataLoader

Batch = tuple[str, ...]


class TaskBatches:
    """The endless stream of one task's batches.

    Args:
        batches: Batches of utterance ids that one pass goes through.
        seed: Shuffles the passes; different tasks get different seeds.
        redraw: Draw the members of each batch anew on every pass, in place of shuffling whole batches. For batches
            that no length sorted: where length tells the label (slow speech is sad), sorted batches hold one class.

    Example:
        >>> stream = TaskBatches([("a",), ("b",)], seed=0)
        >>> sorted(stream.take(0, 2)) == sorted(stream.take(2, 2)) == [("a",), ("b",)]
        True
    """

    def __init__(self, batches: Sequence[Sequence[str]], seed: int, redraw: bool = False) -> None:
        self.batches = [tuple(batch) for batch in batches]
        self.seed, self.redraw = seed, redraw

    def __len__(self) -> int:
        """Batches in one pass."""
        return len(self.batches)

    def one_pass(self, number: int) -> list[Batch]:
        """Pass ``number``, counted from 0."""
        random = np.random.default_rng([self.seed, number])
        if not self.redraw:
            return [self.batches[index] for index in random.permutation(len(self.batches))]
        members = [member for batch in self.batches for member in batch]
        drawn = iter([members[index] for index in random.permutation(len(members))])
        return [tuple(next(drawn) for _ in batch) for batch in self.batches]

    def take(self, start: int, count: int) -> list[Batch]:
        """``count`` batches from position ``start`` of the stream."""
        first, last = start // len(self), (start + count - 1) // len(self)
        passes = [batch for number in range(first, last + 1) for batch in self.one_pass(number)]
        offset = start - first * len(self)
        return passes[offset : offset + count]


def interleave(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """Steps ``start`` to ``start + count`` of training: tasks by the pattern, each stream going on where it was.

    Example:
        >>> streams = {"asr": TaskBatches([("a",)], 0), "ser": TaskBatches([("s",)], 1)}
        >>> interleave(["asr", "asr", "ser"], streams, start=0, count=4)
        [('a',), ('a',), ('s',), ('a',)]
    """
    turns = [pattern[step % len(pattern)] for step in range(start, start + count)]
    rounds, rest = divmod(start, len(pattern))
    taken = {}
    for task in streams:
        before = rounds * list(pattern).count(task) + list(pattern[:rest]).count(task)
        taken[task] = iter(streams[task].take(before, turns.count(task))) if task in turns else iter(())
    return [next(taken[task]) for task in turns]


def build_pattern(pattern: str | Mapping[str, int], streams: Mapping[str, Sized]) -> list[str]:
    """The tasks' turns, repeated throughout training; no shorter pattern repeats to the same.

    Args:
        pattern: ``round_robin`` (one batch each, in the table's order), ``proportional`` (as often as a task has
            batches, spread evenly), or weights such as ``{"asr": 2, "ser": 1}`` (spread evenly as well).
        streams: Batches of each task.

    Raises:
        ValueError: if the pattern is unknown, or its weights are not positive whole numbers of just these tasks.

    Example:
        >>> build_pattern({"asr": 2, "ser": 1}, {"asr": "..", "ser": "."})
        ['asr', 'ser', 'asr']
    """
    if pattern == "round_robin":
        weights = dict.fromkeys(streams, 1)
    elif pattern == "proportional":
        weights = {task: len(batches) for task, batches in streams.items()}
    elif isinstance(pattern, Mapping):
        weights = dict(pattern)
    else:
        raise ValueError(f"unknown pattern {pattern!r}; known are round_robin, proportional, or weights by task")
    if set(weights) != set(streams) or not all(isinstance(value, int) and value > 0 for value in weights.values()):
        raise ValueError(f"pattern {weights} must give a positive whole number to each of the tasks {list(streams)}")
    divisor = reduce(math.gcd, weights.values())
    counts = {task: weight // divisor for task, weight in weights.items()}
    slots = [
        ((turn + 0.5) / counts[task], order, task) for order, task in enumerate(counts) for turn in range(counts[task])
    ]
    return [task for _, _, task in sorted(slots)]


class TaskIterFactory(AbsIterFactory):
    """Builds the data loader of each epoch; ESPnet's ``iterator_type: task``.

    Args:
        streams: Batches of each task, all ranks' utterances together.
        pattern: As in :func:`build_pattern`.
        steps: Batches in an epoch; None for as many as the tasks have together, in whole rounds of the pattern and
            whole steps of the optimizer.
        loader: Arguments of ESPnet's ``SequenceIterFactory``: dataset, seed, num_workers, collate_fn, pin_memory.
        shuffle: False goes through all batches of all tasks once, in order (validation).
        rank: This process among ``world_size``: it takes every ``world_size``-th utterance of each batch.
        world_size: Processes that train together.
        accum_grad: Batches whose gradients ESPnet adds up for one step of the optimizer. Each step shall see every
            task in the pattern's proportion, and leave nothing over for the next epoch.

    Raises:
        ValueError: if a batch has fewer utterances than there are processes, ``accum_grad`` batches are no whole rounds
            of the pattern, or an epoch is no whole number of optimizer steps.
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
    ) -> None:
        self.streams, self.loader, self.shuffle = streams, loader, shuffle
        self.rank, self.world_size = rank, world_size
        self.pattern = build_pattern(pattern, streams)
        total = sum(len(batches) for batches in streams.values())
        _check_accumulation(accum_grad, self.pattern, steps)
        unit = max(accum_grad, len(self.pattern))
        self.steps = steps or math.ceil(total / unit) * unit
        short = [batch for batches in streams.values() for batch in batches.batches if len(batch) < world_size]
        if short:
            raise ValueError(
                f"batch {short[0]} has {len(short[0])} utterances for {world_size} processes; use larger batches"
            )

    def batches(self, epoch: int) -> list[Batch]:
        """This rank's batches of an epoch, counted from 1."""
        if self.shuffle:
            batches = interleave(self.pattern, self.streams, (epoch - 1) * self.steps, self.steps)
        else:
            batches = [batch for stream in self.streams.values() for batch in stream.batches]
        return [batch[self.rank :: self.world_size] for batch in batches]

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """The epoch's loader of (utterance ids, batch)."""
        return SequenceIterFactory(batches=self.batches(epoch), shuffle=False, **self.loader).build_iter(epoch)


def _check_accumulation(accum_grad: int, pattern: Sequence[str], steps: int | None) -> None:
    """Every ``accum_grad`` consecutive batches hold the tasks in proportion just if they are rounds of the pattern."""
    if accum_grad > 1 and accum_grad % len(pattern):
        raise ValueError(
            f"--accum_grad {accum_grad} is no multiple of {len(pattern)}, the length of the pattern {_brief(pattern)}: "
            f"steps of the optimizer would see tasks in unequal shares; take {_nearest(accum_grad, len(pattern))}"
        )
    if steps is not None and steps % accum_grad:
        raise ValueError(
            f"--num_iters_per_epoch {steps} is no multiple of --accum_grad {accum_grad}: ESPnet would carry the last "
            f"{steps % accum_grad} batches' gradients over to the next epoch; take {_nearest(steps, accum_grad)}"
        )


def _nearest(value: int, unit: int) -> str:
    """The multiples of ``unit`` around ``value``."""
    below = value // unit * unit
    return f"{below} or {below + unit}" if below else str(unit)


def _brief(pattern: Sequence[str]) -> str:
    counts = {task: pattern.count(task) for task in dict.fromkeys(pattern)}
    return ",".join(pattern) if len(pattern) <= 12 else str(counts)


def task_batches(
    utt2task: Mapping[str, str],
    shape_files: Sequence[str],
    sampler: Mapping[str, Any],
    per_task: Mapping[str, Mapping[str, Any]],
    seed: int,
    order: Sequence[str],
) -> dict[str, TaskBatches]:
    """Batch every task by itself through ESPnet's batch samplers.

    Args:
        utt2task: Utterance id -> task name.
        shape_files: Of ESPnet: lengths of speech and text.
        sampler: Arguments of ESPnet's ``build_batch_sampler``: type, batch_size, batch_bins, ...
        per_task: Task name -> arguments that differ for it, such as
            ``{"ser": {"type": "unsorted", "batch_size": 16}}``.
        seed: Of the streams.
        order: The tasks of the table, whose order the streams take.

    Raises:
        ValueError: if an utterance of the shape files has no task or an unknown one, or sizes are given for a task
            without utterances.
    """
    keys = [line.split(maxsplit=1)[0] for line in Path(shape_files[0]).read_text(encoding="utf-8").splitlines()]
    untold = [key for key in keys if key not in utt2task]
    if untold:
        raise ValueError(f"{shape_files[0]}: {len(untold)} utterances are not in utt2task, the first is {untold[0]}")
    present = {utt2task[key] for key in keys}
    if present - set(order):
        raise ValueError(f"utt2task names {sorted(present - set(order))}, the table of tasks has {list(order)}")
    tasks = [task for task in order if task in present]
    absent = sorted(set(per_task) - set(tasks))
    if absent:
        raise ValueError(f"task_batches names {absent}, but the data hold only {sorted(tasks)}")
    streams = {}
    for index, task in enumerate(tasks):
        options = {**sampler, **per_task.get(task, {})}
        with TemporaryDirectory() as folder:
            chosen = [_filter(path, utt2task, task, folder) for path in shape_files]
            batches = list(build_batch_sampler(shape_files=chosen, **options))
        streams[task] = TaskBatches(batches, seed=seed * len(tasks) + index, redraw=options["type"] == "unsorted")
        logging.info(f"task {task}: {len(batches)} batches, {sum(map(len, batches))} utterances, {options}")
    return streams


def _filter(shape_file: str, utt2task: Mapping[str, str], task: str, folder: str) -> str:
    lines = Path(shape_file).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if utt2task[line.split(maxsplit=1)[0]] == task]
    path = Path(folder) / f"{len(list(Path(folder).iterdir()))}.{Path(shape_file).name}"
    path.write_text("".join(kept), encoding="utf-8")
    return str(path)
