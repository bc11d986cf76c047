"""The order of batches: whose turn it is, who is in them, and that only (seed, epoch) decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from harmonifuse_espnet.iterator import TaskBatches, TaskIterFactory, build_pattern, interleave, task_batches
from harmonifuse_espnet.preprocessor import collate

STREAMS = {
    "asr": TaskBatches([(f"a{3 * k}", f"a{3 * k + 1}", f"a{3 * k + 2}") for k in range(5)], seed=0),
    "ser": TaskBatches([(f"s{2 * k}", f"s{2 * k + 1}") for k in range(3)], seed=1, redraw=True),
}
A, S = "asr", "ser"


class Numbers:
    """A dataset as ESPnet's: utterance -> (utterance, arrays)."""

    def __getitem__(self, utterance: str) -> tuple[str, dict[str, Any]]:
        return utterance, {"x": torch.tensor([int(utterance[1:])]).numpy()}


def factory(streams: Mapping[str, TaskBatches] = STREAMS, **options: Any) -> TaskIterFactory:
    options = {"pattern": "round_robin", "steps": 7, **options}
    workers = options.pop("num_workers", 0)
    loader = {"dataset": Numbers(), "seed": 0, "num_workers": workers, "collate_fn": collate}
    return TaskIterFactory(streams, loader=loader, **options)


def order(batches: list[tuple[str, ...]]) -> str:
    return "".join(batch[0][0] for batch in batches)


def test_epochs_are_a_function_of_seed_and_epoch_alone() -> None:
    one_go = [factory().batches(epoch) for epoch in (1, 2, 3, 4)]
    assert [factory().batches(epoch) for epoch in (3, 4)] == one_go[2:]
    assert one_go[0] != one_go[1]
    other = {task: TaskBatches(stream.batches, 9, stream.redraw) for task, stream in STREAMS.items()}
    assert [factory(other).batches(epoch) for epoch in (1, 2, 3, 4)] != one_go


def test_epochs_go_on_where_the_one_before_ended() -> None:
    short = [batch for epoch in range(1, 7) for batch in factory(steps=5).batches(epoch)]
    assert short == factory(steps=30).batches(1)


@pytest.mark.parametrize("pattern", ["round_robin", "proportional", {A: 3, S: 2}])
def test_every_batch_holds_one_task_and_every_pass_everyone_once(pattern: Any) -> None:
    batches = [batch for epoch in range(1, 40) for batch in factory(pattern=pattern).batches(epoch)]
    assert all(len({utterance[0] for utterance in batch}) == 1 for batch in batches)
    for task, everyone in (("a", [f"a{k}" for k in range(15)]), ("s", [f"s{k}" for k in range(6)])):
        stream = [batch for batch in batches if batch[0][0] == task]
        size = len(STREAMS[A if task == "a" else S])
        for start in range(0, len(stream) - size, size):
            assert sorted(u for batch in stream[start : start + size] for u in batch) == sorted(everyone)


@pytest.mark.parametrize(
    ("pattern", "steps", "expected"),
    [
        ("round_robin", 7, ["asasasa", "sasasas"]),
        ({A: 2, S: 1}, 6, ["asaasa", "asaasa"]),
        ({A: 3, S: 2}, 5, ["asasa", "asasa"]),
        ({A: 1, S: 4}, 5, ["ssass", "ssass"]),
        ("proportional", 8, ["asaasasa", "asaasasa"]),  # 5 and 3 batches
    ],
)
def test_patterns_literally(pattern: Any, steps: int, expected: list[str]) -> None:
    made = factory(pattern=pattern, steps=steps)
    assert [order(made.batches(epoch)) for epoch in (1, 2)] == expected


def test_proportional_is_reduced_to_the_shortest_round() -> None:
    assert build_pattern("proportional", {A: "." * 40, S: "." * 20}) == [A, S, A]


def test_an_epoch_of_no_given_length_is_whole_rounds() -> None:
    assert factory(steps=None).steps == 8
    assert factory(steps=None, pattern={A: 2, S: 1}).steps == 9


def test_passes_shuffle_whole_batches_or_redraw_their_members() -> None:
    kept = TaskBatches([("a", "b"), ("c", "d"), ("e",)], seed=3)
    drawn = TaskBatches(kept.batches, seed=3, redraw=True)
    passes = range(20)
    assert {batch for number in passes for batch in kept.one_pass(number)} == set(kept.batches)
    assert len({tuple(kept.one_pass(number)) for number in passes}) > 3
    members = Counter(member for number in passes for batch in drawn.one_pass(number) for member in batch)
    assert members == dict.fromkeys("abcde", 20)
    partners = {frozenset(batch) for number in passes for batch in drawn.one_pass(number) if len(batch) == 2}
    assert len(partners) == 10  # all pairs of five met
    assert [len(batch) for batch in drawn.one_pass(7)] == [2, 2, 1]


def test_a_stream_may_be_entered_anywhere() -> None:
    stream = STREAMS[S]
    assert [stream.take(start, 1)[0] for start in range(12)] == stream.take(0, 12)
    assert interleave([A, S, A], STREAMS, 4, 5) == interleave([A, S, A], STREAMS, 0, 9)[4:]


def test_ranks_share_every_batch_and_stay_at_one_task() -> None:
    whole = factory().batches(2)
    ranks = [factory(rank=rank, world_size=2).batches(2) for rank in (0, 1)]
    for batch, *shards in zip(whole, *ranks, strict=True):
        assert sorted(shards[0] + shards[1]) == sorted(batch) and not set(shards[0]) & set(shards[1])
        assert all(shards)


def test_validation_lists_every_batch_once_in_order() -> None:
    for epoch in (1, 5):
        assert factory(shuffle=False).batches(epoch) == [*STREAMS[A].batches, *STREAMS[S].batches]


def test_workers_change_nothing() -> None:
    sequences = [
        [(ids, batch["x"].tolist()) for ids, batch in factory(num_workers=workers).build_iter(2)] for workers in (0, 2)
    ]
    assert sequences[0] == sequences[1] and len(sequences[0]) == 7
    assert [tuple(ids) for ids, _ in sequences[0]] == factory().batches(2)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("alternate", "unknown pattern 'alternate'; known are round_robin, proportional, or weights by task"),
        ({A: 1}, r"pattern {'asr': 1} must give a positive whole number to each of the tasks \['asr', 'ser'\]"),
        ({A: 1, S: 1, "age": 1}, "must give a positive whole number to each of the tasks"),
        ({A: 1, S: 0}, "must give a positive whole number"),
        ({A: 1, S: 0.5}, "must give a positive whole number"),
    ],
)
def test_bad_patterns_are_refused(pattern: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory(pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "accum_grad", "steps"), [("round_robin", 2, None), ({A: 2, S: 1}, 6, 12), ({A: 4, S: 2}, 3, 9)]
)
def test_every_update_sees_the_tasks_in_the_pattern_s_proportion(
    pattern: Any, accum_grad: int, steps: int | None
) -> None:
    made = factory(pattern=pattern, accum_grad=accum_grad, steps=steps)
    assert made.steps % accum_grad == 0  # ESPnet would carry the rest over
    shares = set()
    for epoch in (1, 2, 3):
        batches = made.batches(epoch)
        for start in range(0, len(batches), accum_grad):
            window = batches[start : start + accum_grad]
            shares.add(sum(batch[0].startswith("a") for batch in window) / len(window))
    assert shares == ({0.5} if pattern == "round_robin" else {2 / 3})


def test_a_pattern_is_as_short_as_can_be() -> None:
    assert build_pattern({A: 4, S: 2}, STREAMS) == build_pattern({A: 2, S: 1}, STREAMS) == [A, S, A]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pattern": {A: 2, S: 1}, "accum_grad": 2},
            "--accum_grad 2 is no multiple of 3, the length of the pattern asr,ser,asr: .* unequal shares; take 3$",
        ),
        ({"pattern": {A: 2, S: 1}, "accum_grad": 7}, "take 6 or 9$"),
        (
            {"pattern": {A: 20, S: 1}, "accum_grad": 2},
            "no multiple of 21, the length of the pattern {'asr': 20, 'ser': 1}",
        ),
        (
            {"pattern": "round_robin", "accum_grad": 4, "steps": 10},
            "--num_iters_per_epoch 10 is no multiple of --accum_grad 4: ESPnet would carry the last 2 batches' "
            "gradients over to the next epoch; take 8 or 12$",
        ),
    ],
)
def test_accumulations_that_would_mix_unevenly_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory(**options)


def test_a_batch_must_reach_all_processes() -> None:
    with pytest.raises(ValueError, match=r"batch \('s0', 's1'\) has 2 utterances for 3 processes; use larger batches"):
        factory(world_size=3)


@pytest.fixture
def shapes(tmp_path: Path) -> list[str]:
    """Speech and text shapes of six utterances of each task, longest first in the middle."""
    lengths = [(f"{task}{k}", 100 * (k + 1)) for k in range(6) for task in "as"]
    (tmp_path / "speech_shape").write_text("".join(f"{key} {size}\n" for key, size in lengths))
    (tmp_path / "text_shape").write_text("".join(f"{key} 3,10\n" for key, _ in lengths))
    return [str(tmp_path / name) for name in ("speech_shape", "text_shape")]


UTT2TASK = {f"{task[0]}{k}": task for k in range(6) for task in (A, S)}


def sampler(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "batch_size": 3, "batch_bins": 1500, "sort_batch": "ascending", **more}


@pytest.mark.parametrize("kind", ["sorted", "numel", "folded", "unsorted"])
def test_espnet_s_samplers_batch_each_task_by_itself(kind: str, shapes: list[str]) -> None:
    options = sampler(kind, fold_lengths=[1000, 100] if kind == "folded" else [])
    streams = task_batches(UTT2TASK, shapes, options, {}, 0, [A, S])
    for task, stream in streams.items():
        assert sorted(u for batch in stream.batches for u in batch) == [f"{task[0]}{k}" for k in range(6)]
        assert stream.redraw == (kind == "unsorted")
    sizes = {batch[0]: len(batch) for batch in streams[A].batches}
    assert sizes == ({"a3": 4, "a5": 2} if kind == "numel" else dict.fromkeys(sizes, 3))


def test_a_task_may_have_its_own_kind_and_size_of_batch(shapes: list[str]) -> None:
    streams = task_batches(UTT2TASK, shapes, sampler("sorted"), {S: {"type": "unsorted", "batch_size": 2}}, 0, [A, S])
    assert [len(batch) for batch in streams[S].batches] == [2, 2, 2] and streams[S].redraw
    assert sorted(streams[A].batches) == [("a2", "a1", "a0"), ("a5", "a4", "a3")] and not streams[A].redraw
    assert streams[A].seed != streams[S].seed


def test_utterances_without_a_task_and_tasks_without_utterances_are_named(shapes: list[str]) -> None:
    told = {key: task for key, task in UTT2TASK.items() if key not in ("a3", "s4")}
    with pytest.raises(ValueError, match="speech_shape: 2 utterances are not in utt2task, the first is a3"):
        task_batches(told, shapes, sampler("sorted"), {}, 0, [A, S])
    with pytest.raises(ValueError, match=r"task_batches names \['age'\], but the data hold only \['asr', 'ser'\]"):
        task_batches(UTT2TASK, shapes, sampler("sorted"), {"age": {"batch_size": 2}}, 0, [A, S])
    with pytest.raises(ValueError, match=r"utt2task names \['ser'\], the table of tasks has \['asr'\]"):
        task_batches(UTT2TASK, shapes, sampler("sorted"), {}, 0, [A])


def test_tasks_take_turns_in_the_order_of_the_table(shapes: list[str]) -> None:
    assert list(task_batches(UTT2TASK, shapes, sampler("sorted"), {}, 0, [S, "gender", A])) == [S, A]
