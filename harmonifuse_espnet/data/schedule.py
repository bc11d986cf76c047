"""The task schedule: a stream of batches for each task, and the order of batches in training.

The order is a pure function of the seed and the position, so that a resumed training gets the same batches as an
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
    """An infinite stream of one task's batches, reshuffled on every pass over the data.

    Args:
        batches: Batches of utterance ids, one pass over the data.
        seed: Seed of the shuffling; a different one for each task.
        shuffle_window: Fraction of the data within which utterances move between batches on every pass. 0 only
            shuffles the order of batches. 1 forms new random batches; use it where length correlates with the label
            (sad speech is slow, so that a batch sorted by length has mostly one label). In between, batches sorted by
            length stay approximately sorted.

    Raises:
        InputError: if ``shuffle_window`` is out of range.

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
            utterances = [utterance for batch in batches for utterance in batch]
            positions = np.linspace(0, 1, len(utterances))
            keys = (1 - self.shuffle_window) * positions + self.shuffle_window * random.random(len(utterances))
            shuffled = iter([utterances[index] for index in np.argsort(keys)])
            batches = [tuple(next(shuffled) for _ in batch) for batch in batches]
        return [batches[index] for index in random.permutation(len(batches))]

    def take(self, start: int, count: int) -> list[Batch]:
        """Return ``count`` batches from position ``start`` of the stream."""
        first, last = start // len(self), (start + count - 1) // len(self)
        passes = [batch for number in range(first, last + 1) for batch in self.one_pass(number)]
        offset = start - first * len(self)
        return passes[offset : offset + count]


class BalancedBatches(TaskBatches):
    """An infinite stream of a label task's batches in which all labels are equally frequent.

    The labels rotate, and each label has its own infinite shuffled stream: utterances of rare labels are drawn more
    often. Each batch is then shuffled, because mixed batches and distributed training take every n-th utterance of a
    batch, and these would all have the same label.

    Args:
        batches: As in :class:`TaskBatches`; the new batches have the same sizes.
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
        utterances = [utterance for batch in self.batches for utterance in batch]
        self.size, present = len(utterances), sorted({labels[utterance] for utterance in utterances})
        self.by_label = {
            label: TaskBatches(
                [(utterance,) for utterance in utterances if labels[utterance] == label], seed * len(present) + index
            )
            for index, label in enumerate(present)
        }

    def one_pass(self, number: int) -> list[Batch]:
        """Return the batches of pass ``number``, counted from 0, with one draw for each utterance of the data."""
        random = np.random.default_rng([self.seed, number])
        drawn = interleave(list(self.by_label), self.by_label, number * self.size, self.size)
        utterances = iter([utterance for (utterance,) in drawn])
        return [tuple(random.permutation([next(utterances) for _ in batch]).tolist()) for batch in self.batches]


def build_pattern(pattern: str | Mapping[str, int], streams: Mapping[str, Sized]) -> list[str]:
    """Return the shortest sequence of tasks that the schedule repeats throughout training, one task per batch.

    Args:
        pattern: ``round_robin`` (one batch of each task, in the order of the table), ``proportional`` (the sampling
            weight of a task is its number of batches), or sampling weights such as ``{"asr": 2, "ser": 1}``. The
            batches of a task are spread evenly over the pattern. A task of weight 0 is left out.
        streams: Batches of each task.

    Raises:
        InputError: if the pattern is unknown, or a weight is missing, unknown, or not an integer >= 0, or all are 0.

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
    """Return the batches of ``count`` training steps from step ``start``: one task per batch, by the pattern.

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
    """Redistribute the utterances of :func:`interleave` so that every batch has every task.

    The utterances of each repetition of the pattern (a round) are sorted by task and distributed one by one to its
    batches, which then have the tasks in the pattern's proportion. The first round starts at step 0 of training; an
    epoch may begin and end within a round.

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
    """Return the smallest number of a task's utterances in a batch of this task, or in any batch if ``order`` is mixed.

    Example:
        >>> stream = TaskBatches([("a", "b", "c"), ("d",)], seed=0)  # a round of 3 can have the small batch twice
        >>> [min_task_utterances("asr", stream, ["asr", "asr", "asr"], order) for order in ("interleaved", "mixed")]
        [1, 1]
    """
    sizes = [len(batch) for batch in stream.batches]
    if order != "mixed":
        return min(sizes)
    count = pattern.count(task)
    passes = count // len(sizes) + 2  # maximum number of passes in a round
    return sum(sorted(sizes * passes)[:count]) // len(pattern)


def _tasks_by_step(pattern: Sequence[str], start: int, count: int) -> list[str]:
    return [pattern[step % len(pattern)] for step in range(start, start + count)]
