"""Batches of each task, from ESPnet's batch samplers and the lengths that stage 5 collects."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from espnet2.samplers.build_batch_sampler import build_batch_sampler

from harmonifuse_espnet.common.compatibility import rename_options
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import format_table, read_table
from harmonifuse_espnet.data.schedule import BalancedBatches, TaskBatches
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks


def build_task_batches(
    utt2task: Mapping[str, str],
    shape_files: Sequence[str],
    sampler: Mapping[str, Any],
    per_task: Mapping[str, Mapping[str, Any]],
    seed: int,
    tasks: Tasks,
    text_file: str,
) -> dict[str, TaskBatches]:
    """Batch each task separately.

    Args:
        utt2task: Utterance id -> task name.
        shape_files: ESPnet's shape files, the lengths of speech and text.
        sampler: Arguments of ESPnet's ``build_batch_sampler``: type, batch_size, batch_bins, ...
        per_task: Task name -> arguments that differ for it, such as ``{"ser": {"type": "unsorted", "batch_size": 8}}``.
            ``balanced: true`` makes all labels of a task equally frequent. ``shuffle_window`` is as in
            :class:`harmonifuse_espnet.data.schedule.TaskBatches`; the default is 1 for unsorted batches, else 0.
        seed: Base of the streams' seeds.
        tasks: Table of tasks; the streams have its order.
        text_file: ``text`` of the data folder, with the labels.

    Raises:
        InputError: if an utterance of the shape files has no task or an unknown one, ``per_task`` has a task without
            utterances, a task cannot be balanced, or ``shuffle_window`` is out of range.
    """
    shapes = {path: read_table(path) for path in shape_files}
    present = _present_tasks(utt2task, shape_files[0], shapes[shape_files[0]], per_task, tasks)
    streams: dict[str, TaskBatches] = {}
    for index, name in enumerate(present):
        options = {**sampler, **rename_options("task_batches", per_task.get(name, {}))}
        balanced, shuffle_window = options.pop("balanced", False), options.pop("shuffle_window", None)
        batches, task_seed = _sample_batches(shapes, utt2task, name, options), seed * len(present) + index
        if balanced:
            _check_balanced(tasks[name], options["type"], shuffle_window)
            streams[name] = BalancedBatches(batches, task_seed, _read_labels(text_file, name, batches))
        else:
            window = float(options["type"] == "unsorted") if shuffle_window is None else shuffle_window
            streams[name] = _shuffled_batches(name, batches, task_seed, window)
        logging.info(f"task {name}: {len(batches)} batches, {sum(map(len, batches))} utterances, {options}")
    return streams


def check_utterances(tables: Mapping[str, Collection[str]], shape_files: Sequence[str]) -> None:
    """Check that the tables of a folder and its shape files have the same utterances.

    Args:
        tables: File -> its utterance ids.
        shape_files: ESPnet's shape files.

    Raises:
        InputError: if an utterance is missing from one of them, such as one that was added after stage 5.
    """
    shapes = {path: set(read_table(path)) for path in shape_files}
    for shape_file, with_shape in shapes.items():
        for path, utterances in {**tables, **shapes}.items():
            added, removed = sorted(set(utterances) - with_shape), sorted(with_shape - set(utterances))
            if added or removed:
                incomplete, first = (shape_file, added[0]) if added else (path, removed[0])
                raise InputError(
                    f"{path} has {len(utterances)} utterances, but {shape_file} has {len(with_shape)}: '{first}' is "
                    f"missing from {incomplete}; run stage 5 again"
                )


def _present_tasks(
    utt2task: Mapping[str, str],
    shape_file: str,
    keys: Collection[str],
    per_task: Mapping[str, Mapping[str, Any]],
    tasks: Tasks,
) -> list[str]:
    """Return the tasks of the utterances ``keys`` of ``shape_file``, in the order of the table."""
    missing = [key for key in keys if key not in utt2task]
    if missing:
        raise InputError(
            f"{shape_file}: {len(missing)} utterances missing from utt2task, first {missing[0]}; run stage 5 again"
        )
    present = {utt2task[key] for key in keys}
    if present - set(tasks):
        raise InputError(
            f"utt2task has the tasks {sorted(present - set(tasks))}, the table of tasks has {list(tasks)}; correct one "
            "of them"
        )
    absent = sorted(set(per_task) - present)
    if absent:
        raise InputError(
            f"task_batches has {absent}, but the data have only {sorted(present)}; remove the unused tasks"
        )
    return [name for name in tasks if name in present]


def _sample_batches(
    shapes: Mapping[str, Mapping[str, str]], utt2task: Mapping[str, str], task: str, options: Mapping[str, Any]
) -> list[Sequence[str]]:
    """Run ESPnet's batch sampler on the lengths of one task, which it reads from files."""
    with TemporaryDirectory() as folder:
        filtered = [str(Path(folder) / f"{index}.{Path(path).name}") for index, path in enumerate(shapes)]
        for lengths, target in zip(shapes.values(), filtered, strict=True):
            kept = [(key, shape) for key, shape in lengths.items() if utt2task[key] == task]
            Path(target).write_text(format_table(kept), encoding="utf-8")
        return list(build_batch_sampler(shape_files=filtered, **options))


def _shuffled_batches(task: str, batches: Sequence[Sequence[str]], seed: int, shuffle_window: float) -> TaskBatches:
    try:
        return TaskBatches(batches, seed, shuffle_window)
    except InputError as error:
        raise InputError(f"task_batches: task '{task}': {error}") from error


def _check_balanced(task: SpeechTask, batch_type: str, shuffle_window: float | None) -> None:
    """Check that the batches of a task can be balanced by label."""
    where = f"task_batches: task '{task.name}' has balanced: true"
    if task.answer != "label":
        raise InputError(f"{where}, but answer: {task.answer}, which has no labels; remove balanced")
    if batch_type != "unsorted":
        raise InputError(
            f"{where} and type: {batch_type}, but batches drawn by label cannot be sorted; use type: unsorted"
        )
    if shuffle_window is not None:
        raise InputError(
            f"{where} and shuffle_window: {shuffle_window}, but batches drawn by label are always random; remove "
            "shuffle_window"
        )


def _read_labels(text_file: str, task: str, batches: Sequence[Sequence[str]]) -> dict[str, str]:
    labels = read_table(text_file)
    missing = [key for batch in batches for key in batch if key not in labels]
    if missing:
        raise InputError(
            f"{text_file}: {len(missing)} utterances of task '{task}' missing, first {missing[0]}; prepare the folder "
            "again"
        )
    return labels
