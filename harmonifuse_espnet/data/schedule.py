"""The task schedule: the stream of batches of each task, and the order in which training goes through them.

Everything is a pure function of seeds and positions, so that a resumed training gets the same batches as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from functools import reduce

import numpy as np

from harmonifuse_espnet.common.errors import InputError

Batch = tuple[str, ...]  # utterance ids


class TaskBatches:
    """The infinite stream of one task's batches, shuffled pass by pass.

    Args:
        batches: Batches of utterance ids that make up one pass over the data.
        seed: Seed of the shuffling; a different one for each task.
        shuffle_window: Fraction of the data within which utterances are exchanged between batches on every pass.
            0 shuffles whole batches. 1 redraws all batches at random, for batches that are not sorted by length (where
            length correlates with the label, as slow speech with sadness, a sorted batch has one class). In between,
            batches sorted by length stay approximately sorted.

    Raises:
        InputError: if ``shuffle_window`` is not from 0 to 1.

    Example:
        >>> stream = TaskBatches([("a",), ("b",)], seed=0)
        >>> sorted(stream.take(0, 2)) == sorted(stream.take(2, 2)) == [("a",), ("b",)]
        True
    """

    def __init__(self, batches: Sequence[Sequence[str]], seed: int, shuffle_window: float = 0.0) -> None:
        if not 0 <= shuffle_window <= 1:
            raise InputError(f"shuffle_window is {shuffle_window}, expected a fraction from 0 to 1")
        self.batches = [tuple(batch) for batch in batches]
        self.seed, self.shuffle_window = seed, shuffle_window

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        return len(self.batches)

    def one_pass(self, number: int) -> list[Batch]:
        """Return the batches of pass ``number``, counted from 0."""
        random = np.random.default_rng([self.seed, number])
        batches = self.batches
        if self.shuffle_window:
            members = [member for batch in batches for member in batch]
            positions = np.linspace(0, 1, len(members))
            keys = (1 - self.shuffle_window) * positions + self.shuffle_window * random.random(len(members))
            shuffled = iter([members[index] for index in np.argsort(keys)])
            batches = [tuple(next(shuffled) for _ in batch) for batch in batches]
        return [batches[index] for index in random.permutation(len(batches))]

    def take(self, start: int, count: int) -> list[Batch]:
        """Return ``count`` batches from position ``start`` of the stream."""
        first, last = start // len(self), (start + count - 1) // len(self)
        passes = [batch for number in range(first, last + 1) for batch in self.one_pass(number)]
        offset = start - first * len(self)
        return passes[offset : offset + count]


class BalancedBatches(TaskBatches):
    """The infinite stream of a label task's batches, in which all labels are equally frequent.

    Utterances are drawn label by label in rotation, each label from its own infinite shuffled stream, so that
    utterances of rare labels are drawn more often. Each batch is then shuffled, because mixed batches and distributed
    training take every n-th utterance of a batch, which would all have one label.

    Args:
        batches: As in :class:`TaskBatches`; only their sizes are kept.
        seed: As in :class:`TaskBatches`.
        labels: Utterance id -> label.

    Example:
        >>> labels = {"a1": "ang", "a2": "ang", "a3": "ang", "s1": "sad"}
        >>> stream = BalancedBatches([("a1", "a2"), ("a3", "s1")], 0, labels)
        >>> [sorted(labels[member] for member in batch) for batch in stream.take(0, 3)]
        [['ang', 'sad'], ['ang', 'sad'], ['ang', 'sad']]
    """

    def __init__(self, batches: Sequence[Sequence[str]], seed: int, labels: Mapping[str, str]) -> None:
        super().__init__(batches, seed, shuffle_window=1.0)
        members = [member for batch in self.batches for member in batch]
        self.size, present = len(members), sorted({labels[member] for member in members})
        self.by_label = {
            label: TaskBatches(
                [(member,) for member in members if labels[member] == label], seed * len(present) + index
            )
            for index, label in enumerate(present)
        }

    def one_pass(self, number: int) -> list[Batch]:
        """Return the batches of pass ``number``, counted from 0: as many draws as utterances."""
        random = np.random.default_rng([self.seed, number])
        drawn = interleave(list(self.by_label), self.by_label, number * self.size, self.size)
        members = iter([member for (member,) in drawn])
        return [tuple(random.permutation([next(members) for _ in batch]).tolist()) for batch in self.batches]


def build_pattern(pattern: str | Mapping[str, int], streams: Mapping[str, Sized]) -> list[str]:
    """Return the shortest sequence of tasks that the schedule repeats throughout training, one task per batch.

    Args:
        pattern: ``round_robin`` (one batch of each task, in the order of the table), ``proportional`` (sampling weights
            are the tasks' numbers of batches), or sampling weights such as ``{"asr": 2, "ser": 1}``. Each task's
            batches are spread evenly over the pattern. A task of weight 0 is left out.
        streams: Batches of each task.

    Raises:
        InputError: if the pattern is unknown, or its weights are not integers >= 0 of all tasks, at least one above 0.

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
        raise InputError(f"unknown task_pattern {pattern!r}; give round_robin, proportional, or weights by task")
    integers = all(isinstance(value, int) and value >= 0 for value in weights.values())
    if set(weights) != set(streams) or not integers or not any(weights.values()):
        raise InputError(
            f"task_pattern {weights} must give each of the tasks {list(streams)} an integer weight, "
            "0 to leave it out; at least one must be above 0"
        )
    divisor = reduce(math.gcd, weights.values())
    counts = {task: weight // divisor for task, weight in weights.items()}
    slots = [
        ((number + 0.5) / counts[task], order, task)
        for order, task in enumerate(counts)
        for number in range(counts[task])
    ]
    return [task for _, _, task in sorted(slots)]


def interleave(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """Return the batches of steps ``start`` to ``start + count`` of training: one task per batch, by the pattern.

    Example:
        >>> streams = {"asr": TaskBatches([("a",)], 0), "ser": TaskBatches([("s",)], 1)}
        >>> interleave(["asr", "asr", "ser"], streams, start=0, count=4)
        [('a',), ('a',), ('s',), ('a',)]
    """
    tasks = _tasks_by_step(pattern, start, count)
    rounds, rest = divmod(start, len(pattern))
    taken = {}
    for task in streams:
        position = rounds * list(pattern).count(task) + list(pattern[:rest]).count(task)
        taken[task] = iter(streams[task].take(position, tasks.count(task))) if task in tasks else iter(())
    return [next(taken[task]) for task in tasks]


def sort_by_task(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """Return the batches of :func:`interleave`, sorted by task in the order of ``streams``.

    Example:
        >>> streams = {"asr": TaskBatches([("a",)], 0), "ser": TaskBatches([("s",)], 1)}
        >>> sort_by_task(["asr", "ser"], streams, start=0, count=5)
        [('a',), ('a',), ('a',), ('s',), ('s',)]
    """
    tasks, batches = _tasks_by_step(pattern, start, count), interleave(pattern, streams, start, count)
    return [batch for task in streams for other, batch in zip(tasks, batches, strict=True) if other == task]


def mix(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """Return the utterances of :func:`interleave` redistributed, so that every batch has every task.

    The utterances of each round of the pattern are pooled task by task and dealt to the batches of the round one by
    one: every batch has the tasks in the pattern's proportion. Rounds are counted from step 0 of training; an epoch may
    begin and end within one.

    Example:
        >>> streams = {"asr": TaskBatches([("a", "a", "a")], 0), "ser": TaskBatches([("s", "s", "s")], 1)}
        >>> mix(["asr", "asr", "ser"], streams, start=0, count=2)
        [('a', 'a', 's'), ('a', 'a', 's')]
    """
    length = len(pattern)
    first, rounds = start // length, -(-(start + count) // length) - start // length
    interleaved = interleave(pattern, streams, first * length, rounds * length)
    mixed: list[Batch] = []
    for begin in range(0, len(interleaved), length):
        one_round = list(zip(pattern, interleaved[begin : begin + length], strict=True))
        pooled = [member for task in streams for other, batch in one_round if other == task for member in batch]
        mixed += [tuple(pooled[position::length]) for position in range(length)]
    offset = start - first * length
    return mixed[offset : offset + count]


ORDERS = {"interleaved": interleave, "sequential": sort_by_task, "mixed": mix}


def min_task_utterances(task: str, stream: TaskBatches, pattern: Sequence[str], order: str) -> int:
    """Return the minimum number of a task's utterances in its batches, or in all batches if ``order`` is ``mixed``.

    Example:
        >>> stream = TaskBatches([("a", "b", "c"), ("d",)], seed=0)  # one round may have the small batch of two passes
        >>> [min_task_utterances("asr", stream, ["asr", "asr", "asr"], order) for order in ("interleaved", "mixed")]
        [1, 1]
    """
    sizes = [len(batch) for batch in stream.batches]
    if order != "mixed":
        return min(sizes)
    count = pattern.count(task)
    passes = count // len(sizes) + 2  # that one round may overlap
    return sum(sorted(sizes * passes)[:count]) // len(pattern)


def _tasks_by_step(pattern: Sequence[str], start: int, count: int) -> list[str]:
    return [pattern[step % len(pattern)] for step in range(start, start + count)]
