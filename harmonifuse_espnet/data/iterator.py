"""Batch-interleaved training (HarmoniFuse, arXiv 2509.18570): every batch holds one task, and tasks take turns.

The order of batches is a pure function of (seed, epoch), so that a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.build_batch_sampler import build_batch_sampler
from torch.utils.data import DataLoader

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.schedule import (
    ORDERS,
    BalancedBatches,
    Batch,
    TaskBatches,
    build_pattern,
    min_task_utterances,
)
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks


class TaskIterFactory(AbsIterFactory):
    """Builds the data loader of each epoch; ESPnet's ``iterator_type: task``.

    Args:
        streams: Batches of each task, all ranks' utterances together.
        pattern: As in :func:`build_pattern`. Tasks of weight 0 are left out, of validation too.
        steps: Batches in an epoch; None for as many as the tasks have together, in whole rounds of the pattern and
            whole steps of the optimizer.
        loader: Arguments of ESPnet's ``SequenceIterFactory``: dataset, seed, num_workers, collate_fn, pin_memory.
        shuffle: False goes through all batches of all tasks once, in order (validation).
        rank: This process among ``world_size``: it takes every ``world_size``-th utterance of each batch.
        world_size: Processes that train together.
        accum_grad: Batches whose gradients ESPnet adds up for one step of the optimizer. Each step shall see every
            task in the pattern's proportion, and leave nothing over for the next epoch.
        order: What becomes of the tasks' turns: ``interleaved`` leaves them alone, ``sequential`` goes through an epoch
            task after task, ``mixed`` puts every task into every batch.

    Raises:
        ValueError: if the order is unknown, a process would get no utterance of a batch (when mixed, of one of its
            tasks), ``accum_grad`` interleaved batches are no whole rounds of the pattern, or an epoch is no whole
            number of optimizer steps.
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
            raise InputError(f"unknown task_order {order!r}; known are {', '.join(ORDERS)}")
        self.loader, self.shuffle, self.order = loader, shuffle, order
        self.rank, self.world_size = rank, world_size
        self.pattern = build_pattern(pattern, streams)
        self.streams = {task: stream for task, stream in streams.items() if task in self.pattern}
        total = sum(len(batches) for batches in self.streams.values())
        _check_accumulation(accum_grad, self.pattern, steps, order)
        unit = math.lcm(accum_grad, len(self.pattern))
        self.steps = steps or math.ceil(total / unit) * unit
        for task, stream in self.streams.items():
            fewest = min_task_utterances(task, stream, self.pattern, order if shuffle else "interleaved")
            if fewest < world_size:
                raise InputError(
                    f"--task_order {order}: a batch may have {fewest} utterances of task {task} for {world_size} "
                    "processes; use larger batches (task_batches) or fewer processes"
                )

    def batches(self, epoch: int) -> list[Batch]:
        """This rank's batches of an epoch, counted from 1."""
        if self.shuffle:
            batches = ORDERS[self.order](self.pattern, self.streams, (epoch - 1) * self.steps, self.steps)
        else:
            batches = [batch for stream in self.streams.values() for batch in stream.batches]
        return [batch[self.rank :: self.world_size] for batch in batches]

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """The epoch's loader of (utterance ids, batch)."""
        return SequenceIterFactory(batches=self.batches(epoch), shuffle=False, **self.loader).build_iter(epoch)


def _check_accumulation(accum_grad: int, pattern: Sequence[str], steps: int | None, order: str) -> None:
    """Every ``accum_grad`` interleaved batches hold the tasks in proportion just if they are rounds of the pattern.

    Mixed batches always do, sequential ones are not meant to.
    """
    if order == "interleaved" and accum_grad > 1 and accum_grad % len(pattern):
        raise InputError(
            f"--accum_grad {accum_grad} is no multiple of {len(pattern)}, the length of the pattern {_brief(pattern)}: "
            f"steps of the optimizer would see tasks in unequal shares; take {_nearest(accum_grad, len(pattern))}"
        )
    if steps is not None and steps % accum_grad:
        raise InputError(
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
    tasks: Tasks,
    text_file: str,
) -> dict[str, TaskBatches]:
    """Batch every task by itself through ESPnet's batch samplers.

    Args:
        utt2task: Utterance id -> task name.
        shape_files: Of ESPnet: lengths of speech and text.
        sampler: Arguments of ESPnet's ``build_batch_sampler``: type, batch_size, batch_bins, ...
        per_task: Task name -> arguments that differ for it, such as ``{"ser": {"type": "unsorted", "batch_size": 8}}``;
            ``balanced: true`` makes batches in which each label is as frequent as any other, ``redraw`` is as in
            :class:`TaskBatches`, 1 for unsorted batches unless given, else 0.
        seed: Of the streams.
        tasks: The table, whose order the streams take.
        text_file: Of the data: the labels.

    Raises:
        ValueError: if an utterance of the shape files has no task or an unknown one, sizes are given for a task
            without utterances, a task cannot be balanced, or ``redraw`` is no share.
    """
    keys = [line.split(maxsplit=1)[0] for line in Path(shape_files[0]).read_text(encoding="utf-8").splitlines()]
    untold = [key for key in keys if key not in utt2task]
    if untold:
        raise InputError(f"{shape_files[0]}: {len(untold)} utterances are not in utt2task, the first is {untold[0]}")
    found = {utt2task[key] for key in keys}
    if found - set(tasks):
        raise InputError(f"utt2task names {sorted(found - set(tasks))}, the table of tasks has {list(tasks)}")
    present = [name for name in tasks if name in found]
    absent = sorted(set(per_task) - found)
    if absent:
        raise InputError(f"task_batches names {absent}, but the data hold only {sorted(found)}")
    streams: dict[str, TaskBatches] = {}
    for index, name in enumerate(present):
        options = {**sampler, **per_task.get(name, {})}
        balanced, own_seed = options.pop("balanced", False), seed * len(present) + index
        redraw = options.pop("redraw", None)
        with TemporaryDirectory() as folder:
            chosen = [_filter(path, utt2task, name, folder) for path in shape_files]
            batches = list(build_batch_sampler(shape_files=chosen, **options))
        if balanced:
            labels = _labels(text_file, tasks[name], batches, options["type"], redraw)
            streams[name] = BalancedBatches(batches, own_seed, labels)
        else:
            redraw = float(options["type"] == "unsorted") if redraw is None else redraw
            try:
                streams[name] = TaskBatches(batches, own_seed, redraw)
            except ValueError as error:
                raise InputError(f"task_batches: task '{name}': {error}") from error
        logging.info(f"task {name}: {len(batches)} batches, {sum(map(len, batches))} utterances, {options}")
    return streams


def _labels(
    text_file: str, task: SpeechTask, batches: Sequence[Sequence[str]], batch_type: str, redraw: float | None
) -> dict[str, str]:
    """The labels of a task's utterances, if its batches can be balanced by them."""
    if task.answer != "label":
        raise InputError(
            f"task_batches: task '{task.name}' answers with {task.answer}, so it has no labels to balance; "
            "leave out balanced"
        )
    if batch_type != "unsorted":
        raise InputError(
            f"task_batches: task '{task.name}' has balanced with type {batch_type}, but batches drawn by label "
            "cannot be sorted; take type: unsorted"
        )
    if redraw is not None:
        raise InputError(
            f"task_batches: task '{task.name}' has balanced with redraw {redraw}, but batches drawn by label are other "
            "ones on every pass; leave out redraw"
        )
    labels = read_table(text_file)
    lacking = [key for batch in batches for key in batch if key not in labels]
    if lacking:
        raise InputError(
            f"{text_file}: {len(lacking)} utterances of task '{task.name}' are missing, first {lacking[0]}"
        )
    return labels


def _filter(shape_file: str, utt2task: Mapping[str, str], task: str, folder: str) -> str:
    lines = Path(shape_file).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if utt2task[line.split(maxsplit=1)[0]] == task]
    path = Path(folder) / f"{len(list(Path(folder).iterdir()))}.{Path(shape_file).name}"
    path.write_text("".join(kept), encoding="utf-8")
    return str(path)
