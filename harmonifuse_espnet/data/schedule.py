"""Whose turn it is: each task's endless stream of batches, and the order in which training goes through them.

Everything is a pure function of seeds and positions, so that a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from functools import reduce

import numpy as np

from harmonifuse_espnet.common.errors import InputError

Batch = tuple[str, ...]


class TaskBatches:
    """The endless stream of one task's batches.

    Args:
        batches: Batches of utterance ids that one pass goes through.
        seed: Shuffles the passes; different tasks get different seeds.
        redraw: Share of the stream from which the members of each batch are drawn anew on every pass: 0 shuffles
            whole batches; 1 draws from all, for batches that no length sorted (where length tells the label, as slow
            speech is sad, sorted batches hold one class); in between, sorted batches stay about sorted.

    Raises:
        ValueError: if ``redraw`` is not from 0 to 1.

    Example:
        >>> stream = TaskBatches([("a",), ("b",)], seed=0)
        >>> sorted(stream.take(0, 2)) == sorted(stream.take(2, 2)) == [("a",), ("b",)]
        True
    """

    def __init__(self, batches: Sequence[Sequence[str]], seed: int, redraw: float = 0.0) -> None:
        if not 0 <= redraw <= 1:
            raise InputError(f"redraw is {redraw}, expected a share from 0 to 1")
        self.batches = [tuple(batch) for batch in batches]
        self.seed, self.redraw = seed, redraw

    def __len__(self) -> int:
        """Batches in one pass."""
        return len(self.batches)

    def one_pass(self, number: int) -> list[Batch]:
        """Pass ``number``, counted from 0."""
        random = np.random.default_rng([self.seed, number])
        batches = self.batches
        if self.redraw:
            members = [member for batch in batches for member in batch]
            places = (1 - self.redraw) * np.linspace(0, 1, len(members)) + self.redraw * random.random(len(members))
            drawn = iter([members[index] for index in np.argsort(places)])
            batches = [tuple(next(drawn) for _ in batch) for batch in batches]
        return [batches[index] for index in random.permutation(len(batches))]

    def take(self, start: int, count: int) -> list[Batch]:
        """``count`` batches from position ``start`` of the stream."""
        first, last = start // len(self), (start + count - 1) // len(self)
        passes = [batch for number in range(first, last + 1) for batch in self.one_pass(number)]
        offset = start - first * len(self)
        return passes[offset : offset + count]


class BalancedBatches(TaskBatches):
    """The endless stream of a label task's batches, in which each label is as frequent as any other.

    Members are drawn label by label in turn, each label an endless shuffled stream of its own, so that rarer labels
    come more often. They are shuffled within a batch, as what takes every n-th would get one label alone.

    Args:
        batches: As in :class:`TaskBatches`; their sizes are kept.
        seed: As in :class:`TaskBatches`.
        labels: Utterance id -> label.

    Example:
        >>> labels = {"a1": "ang", "a2": "ang", "a3": "ang", "s1": "sad"}
        >>> stream = BalancedBatches([("a1", "a2"), ("a3", "s1")], 0, labels)
        >>> [sorted(labels[member] for member in batch) for batch in stream.take(0, 3)]
        [['ang', 'sad'], ['ang', 'sad'], ['ang', 'sad']]
    """

    def __init__(self, batches: Sequence[Sequence[str]], seed: int, labels: Mapping[str, str]) -> None:
        super().__init__(batches, seed, redraw=1.0)
        members = [member for batch in self.batches for member in batch]
        self.size, present = len(members), sorted({labels[member] for member in members})
        self.by_label = {
            label: TaskBatches([(member,) for member in members if labels[member] == label], seed * len(present) + turn)
            for turn, label in enumerate(present)
        }

    def one_pass(self, number: int) -> list[Batch]:
        """As many draws as there are utterances; pass ``number``, counted from 0."""
        random = np.random.default_rng([self.seed, number])
        drawn = interleave(list(self.by_label), self.by_label, number * self.size, self.size)
        members = iter([member for (member,) in drawn])
        return [tuple(random.permutation([next(members) for _ in batch]).tolist()) for batch in self.batches]


def build_pattern(pattern: str | Mapping[str, int], streams: Mapping[str, Sized]) -> list[str]:
    """The tasks' turns, repeated throughout training; no shorter pattern repeats to the same.

    Args:
        pattern: ``round_robin`` (one batch each, in the table's order), ``proportional`` (as often as a task has
            batches, spread evenly), or weights such as ``{"asr": 2, "ser": 1}`` (spread evenly as well). A task of
            weight 0 has no turn.
        streams: Batches of each task.

    Raises:
        ValueError: if the pattern is unknown, or its weights are not whole numbers of just these tasks, some above 0.

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
        raise InputError(f"unknown pattern {pattern!r}; known are round_robin, proportional, or weights by task")
    whole = all(isinstance(value, int) and value >= 0 for value in weights.values())
    if set(weights) != set(streams) or not whole or not any(weights.values()):
        raise InputError(
            f"pattern {weights} must give a whole number to each of the tasks {list(streams)}: "
            "its share, or 0 to leave it out; one at least must be above 0"
        )
    divisor = reduce(math.gcd, weights.values())
    counts = {task: weight // divisor for task, weight in weights.items()}
    slots = [
        ((turn + 0.5) / counts[task], order, task) for order, task in enumerate(counts) for turn in range(counts[task])
    ]
    return [task for _, _, task in sorted(slots)]


def interleave(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """Steps ``start`` to ``start + count`` of training: tasks by the pattern, each stream going on where it was.

    Example:
        >>> streams = {"asr": TaskBatches([("a",)], 0), "ser": TaskBatches([("s",)], 1)}
        >>> interleave(["asr", "asr", "ser"], streams, start=0, count=4)
        [('a',), ('a',), ('s',), ('a',)]
    """
    turns = _turns(pattern, start, count)
    rounds, rest = divmod(start, len(pattern))
    taken = {}
    for task in streams:
        before = rounds * list(pattern).count(task) + list(pattern[:rest]).count(task)
        taken[task] = iter(streams[task].take(before, turns.count(task))) if task in turns else iter(())
    return [next(taken[task]) for task in turns]


def sort_by_task(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """The batches of :func:`interleave`, task after task in the order of ``streams``.

    Example:
        >>> streams = {"asr": TaskBatches([("a",)], 0), "ser": TaskBatches([("s",)], 1)}
        >>> sort_by_task(["asr", "ser"], streams, start=0, count=5)
        [('a',), ('a',), ('a',), ('s',), ('s',)]
    """
    turns, batches = _turns(pattern, start, count), interleave(pattern, streams, start, count)
    return [batch for task in streams for turn, batch in zip(turns, batches, strict=True) if turn == task]


def mix(pattern: Sequence[str], streams: Mapping[str, TaskBatches], start: int, count: int) -> list[Batch]:
    """The utterances of :func:`interleave`, those of each round of the pattern dealt out in turn over its batches.

    Every batch holds every task in the pattern's proportion. Rounds are counted from step 0 of training: an epoch may
    begin and end within one.

    Example:
        >>> streams = {"asr": TaskBatches([("a", "a", "a")], 0), "ser": TaskBatches([("s", "s", "s")], 1)}
        >>> mix(["asr", "asr", "ser"], streams, start=0, count=2)
        [('a', 'a', 's'), ('a', 'a', 's')]
    """
    length = len(pattern)
    first, rounds = start // length, -(-(start + count) // length) - start // length
    whole = interleave(pattern, streams, first * length, rounds * length)
    mixed: list[Batch] = []
    for begin in range(0, len(whole), length):
        turns = list(zip(pattern, whole[begin : begin + length], strict=True))
        pooled = [member for task in streams for turn, batch in turns if turn == task for member in batch]
        mixed += [tuple(pooled[place::length]) for place in range(length)]
    offset = start - first * length
    return mixed[offset : offset + count]


ORDERS = {"interleaved": interleave, "sequential": sort_by_task, "mixed": mix}


def min_task_utterances(task: str, stream: TaskBatches, pattern: Sequence[str], order: str) -> int:
    """How many utterances of a task the batches that have its turn, or all that are ``mixed``, are sure to hold.

    Example:
        >>> stream = TaskBatches([("a", "b", "c"), ("d",)], seed=0)  # two passes may meet at the small batch
        >>> [min_task_utterances("asr", stream, ["asr", "asr", "asr"], order) for order in ("interleaved", "mixed")]
        [1, 1]
    """
    sizes = [len(batch) for batch in stream.batches]
    if order != "mixed":
        return min(sizes)
    turns = pattern.count(task)
    often = turns // len(sizes) + 2  # passes that a round may touch
    return sum(sorted(sizes * often)[:turns]) // len(pattern)


def _turns(pattern: Sequence[str], start: int, count: int) -> list[str]:
    return [pattern[step % len(pattern)] for step in range(start, start + count)]
