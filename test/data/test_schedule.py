"""Streams of batches, and the order in which training goes through them, as literal sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from harmonifuse_espnet.data.schedule import (
    ORDERS,
    BalancedBatches,
    Batch,
    TaskBatches,
    build_pattern,
    interleave,
    min_task_utterances,
    mix,
    sort_by_task,
)

A, S, G = "asr", "ser", "gender"
STREAMS = {
    A: TaskBatches([(f"a{3 * k}", f"a{3 * k + 1}", f"a{3 * k + 2}") for k in range(5)], seed=0),
    S: TaskBatches([(f"s{2 * k}", f"s{2 * k + 1}") for k in range(3)], seed=1, shuffle_window=1.0),
}
LABELS = {f"a{k}": "ang" for k in range(9)} | {f"n{k}": "neu" for k in range(4)} | {"s0": "sad"}


class Unshuffled(TaskBatches):
    """A stream with the same order in every pass."""

    def one_pass(self, number: int) -> list[Batch]:
        return self.batches


def unshuffled(name: str, sizes: Sequence[int]) -> Unshuffled:
    """Return batches of consecutively numbered utterances."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return Unshuffled(
        [[f"{name}{start + k}" for k in range(size)] for start, size in zip(starts, sizes, strict=True)], 0
    )


def test_passes_shuffle_whole_batches_or_their_members() -> None:
    kept = TaskBatches([("a", "b"), ("c", "d"), ("e",)], seed=3)
    redrawn = TaskBatches(kept.batches, seed=3, shuffle_window=1.0)
    passes = range(20)
    assert {batch for number in passes for batch in kept.one_pass(number)} == set(kept.batches)
    assert len({tuple(kept.one_pass(number)) for number in passes}) > 3
    members = Counter(member for number in passes for batch in redrawn.one_pass(number) for member in batch)
    assert members == dict.fromkeys("abcde", 20)
    partners = {frozenset(batch) for number in passes for batch in redrawn.one_pass(number) if len(batch) == 2}
    assert len(partners) == 10  # all pairs of five
    assert all(sorted(len(batch) for batch in redrawn.one_pass(number)) == [1, 2, 2] for number in passes)
    assert [len(batch) for batch in redrawn.one_pass(7)] == [2, 2, 1]


def test_a_small_shuffle_window_redraws_sorted_batches_from_neighbours() -> None:
    stream = TaskBatches(
        [tuple(map(str, range(start, start + 4))) for start in range(0, 100, 4)], 0, shuffle_window=0.1
    )
    partners: dict[int, set[int]] = {}
    for number in range(50):
        batches = [sorted(map(int, batch)) for batch in stream.one_pass(number)]
        assert sorted(member for batch in batches for member in batch) == list(range(100))
        assert batches != sorted(batches)
        for batch in batches:
            for member in batch:
                partners.setdefault(member, set()).update(batch)
    # keys are 0.9 position + 0.1 random: at most 0.1 / 0.9 of 99 positions are exchanged, and a batch has 4 more
    assert all(max(found) - min(found) <= 2 * (11 + 4) for found in partners.values())
    assert all(len(found) > 10 for found in partners.values())


@pytest.mark.parametrize("shuffle_window", [-0.1, 1.5])
def test_a_shuffle_window_out_of_range_is_refused(shuffle_window: float) -> None:
    with pytest.raises(ValueError, match=f"shuffle_window is {shuffle_window}, expected a fraction from 0 to 1"):
        TaskBatches([("a",)], 0, shuffle_window)


@pytest.mark.parametrize(
    ("shuffle_window", "first"),
    [
        (0.0, [("e", "f"), ("c", "d"), ("a", "b")]),
        (0.5, [("e", "d"), ("a", "b"), ("c", "f")]),
        (1.0, [("b", "f"), ("a", "e"), ("d", "c")]),
    ],
)
def test_passes_literally(shuffle_window: float, first: list[Batch]) -> None:
    """The order of random draws must not change, or experiments are no longer reproducible."""
    assert TaskBatches([("a", "b"), ("c", "d"), ("e", "f")], 3, shuffle_window).one_pass(0) == first


def test_a_stream_can_be_resumed_at_any_position() -> None:
    for stream in (STREAMS[A], STREAMS[S], BalancedBatches([list(LABELS)[:8], list(LABELS)[8:]], 3, LABELS)):
        assert [stream.take(start, 1)[0] for start in range(12)] == stream.take(0, 12)


@pytest.mark.parametrize("order", ORDERS)
def test_training_can_be_resumed_at_any_step(order: str) -> None:
    arrange, pattern = ORDERS[order], [A, S, A]
    if order == "sequential":  # sorts the requested steps, an epoch
        assert sorted(arrange(pattern, STREAMS, 4, 5)) == sorted(interleave(pattern, STREAMS, 4, 5))
    else:
        assert arrange(pattern, STREAMS, 4, 5) == arrange(pattern, STREAMS, 0, 9)[4:]


def test_balanced_batches_have_all_labels_equally_often_literally() -> None:
    stream = BalancedBatches([list(LABELS)[:6], list(LABELS)[6:10], list(LABELS)[10:]], seed=0, labels=LABELS)
    counts = [Counter(LABELS[member] for member in batch) for batch in stream.one_pass(0)]
    assert counts == [{"ang": 2, "neu": 2, "sad": 2}, {"ang": 2, "neu": 1, "sad": 1}, {"ang": 1, "neu": 2, "sad": 1}]
    batches = stream.take(0, 9)
    members = Counter(member for batch in batches for member in batch)  # 42 draws, 14 of each label
    assert members["s0"] == 14 and sorted(members[f"n{k}"] for k in range(4)) == [3, 3, 4, 4]
    assert sorted(members[f"a{k}"] for k in range(9)) == [1] * 4 + [2] * 5


def test_balanced_batches_are_a_function_of_seed_and_pass() -> None:
    batches = [list(LABELS)[:7], list(LABELS)[7:]]
    one, same, other = (BalancedBatches(batches, seed, LABELS) for seed in (5, 5, 6))
    assert one.one_pass(3) == same.one_pass(3)
    assert one.one_pass(3) != one.one_pass(4) and one.one_pass(3) != other.one_pass(3)


def test_positions_in_a_balanced_batch_are_independent_of_the_label() -> None:
    """Mixed batches and processes take every n-th utterance."""
    stream = BalancedBatches([list(LABELS)], 0, LABELS)
    for place in range(3):
        taken = [LABELS[member] for number in range(10) for member in stream.one_pass(number)[0][place::3]]
        assert all(10 <= count <= 25 for count in Counter(taken).values()) and len(set(taken)) == 3


def test_a_proportional_pattern_is_reduced_to_its_shortest_form() -> None:
    assert build_pattern("proportional", {A: "." * 40, S: "." * 20}) == [A, S, A]


def test_weights_are_reduced_to_the_shortest_pattern() -> None:
    assert build_pattern({A: 4, S: 2}, STREAMS) == build_pattern({A: 2, S: 1}, STREAMS) == [A, S, A]


def test_a_task_of_weight_0_is_not_in_the_pattern() -> None:
    assert build_pattern({A: 3, S: 0}, STREAMS) == [A]
    assert build_pattern({A: 0, S: 2, G: 4}, {A: ".", S: ".", G: "."}) == [G, S, G]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("alternate", "unknown task_pattern 'alternate'; give round_robin, proportional, or weights by task"),
        ({A: 1}, r"task_pattern {'asr': 1} must give each of the tasks \['asr', 'ser'\] an integer weight, 0 to leave"),
        ({A: 1, S: 1, "age": 1}, "must give each of the tasks .* an integer weight"),
        ({A: 1, S: -1}, "an integer weight"),
        ({A: 1, S: 0.5}, "an integer weight"),
        ({A: 0, S: 0}, "at least one must be above 0"),
    ],
)
def test_invalid_patterns_are_refused(pattern: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_pattern(pattern, STREAMS)


def test_the_three_orders_literally() -> None:
    streams = {A: unshuffled("a", [4, 4, 4]), S: unshuffled("s", [4, 4])}
    pattern = [A, A, S, A]
    assert interleave(pattern, streams, 0, 4) == [
        ("a0", "a1", "a2", "a3"),
        ("a4", "a5", "a6", "a7"),
        ("s0", "s1", "s2", "s3"),
        ("a8", "a9", "a10", "a11"),
    ]
    assert sort_by_task(pattern, streams, 0, 4) == [
        ("a0", "a1", "a2", "a3"),
        ("a4", "a5", "a6", "a7"),
        ("a8", "a9", "a10", "a11"),
        ("s0", "s1", "s2", "s3"),
    ]
    assert mix(pattern, streams, 0, 4) == [
        ("a0", "a4", "a8", "s0"),
        ("a1", "a5", "a9", "s1"),
        ("a2", "a6", "a10", "s2"),
        ("a3", "a7", "a11", "s3"),
    ]
    assert mix(pattern, streams, 3, 3) == [
        ("a3", "a7", "a11", "s3"),
        ("a0", "a4", "a8", "s4"),
        ("a1", "a5", "a9", "s5"),
    ]


def test_sizes_of_mixed_batches_differ_by_at_most_one() -> None:
    streams = {A: unshuffled("a", [5, 2]), S: unshuffled("s", [4])}
    assert mix([A, S, A], streams, 0, 3) == [
        ("a0", "a3", "a6", "s2"),
        ("a1", "a4", "s0", "s3"),
        ("a2", "a5", "s1"),
    ]


def test_all_orders_have_the_same_utterances() -> None:
    pattern = [A, S, A]
    drawn = [Counter(u for batch in arrange(pattern, STREAMS, 0, 12) for u in batch) for arrange in ORDERS.values()]
    assert drawn[0] == drawn[1] == drawn[2] and sum(drawn[0].values()) == 8 * 3 + 4 * 2


@pytest.mark.parametrize("sizes", [[6, 6, 1], [9, 2, 2], [3]])
@pytest.mark.parametrize("weight", [1, 2, 5])
def test_no_mixed_batch_has_fewer_utterances_than_the_minimum(sizes: list[int], weight: int) -> None:
    streams = {A: TaskBatches(unshuffled("a", sizes).batches, 0), S: unshuffled("s", [8])}
    pattern = build_pattern({A: weight, S: 1}, streams)
    minimum = min_task_utterances(A, streams[A], pattern, "mixed")
    seen = [sum(u[0] == "a" for u in batch) for batch in mix(pattern, streams, 0, 300 * len(pattern))]
    assert minimum <= min(seen) and (min(seen) == minimum or weight == 5)
    assert min_task_utterances(A, streams[A], pattern, "interleaved") == min(sizes)
