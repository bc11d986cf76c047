"""The order of batches: whose turn it is, who is in them, and that only (seed, epoch) decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import GENDER, TABLE

from harmonifuse_espnet.data.iterator import TaskIterFactory, task_batches
from harmonifuse_espnet.data.preprocessor import collate
from harmonifuse_espnet.data.schedule import BalancedBatches, TaskBatches
from harmonifuse_espnet.data.tasks import build_tasks

STREAMS = {
    "asr": TaskBatches([(f"a{3 * k}", f"a{3 * k + 1}", f"a{3 * k + 2}") for k in range(5)], seed=0),
    "ser": TaskBatches([(f"s{2 * k}", f"s{2 * k + 1}") for k in range(3)], seed=1, redraw=1.0),
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


def test_the_order_is_what_becomes_of_the_pattern_literally() -> None:
    made = factory(pattern={A: 2, S: 1}, steps=6, order="sequential")
    assert [order(made.batches(epoch)) for epoch in (1, 2)] == ["aaaass"] * 2
    for epoch in (1, 2):
        interleaved = factory(pattern={A: 2, S: 1}, steps=6).batches(epoch)
        assert sorted(made.batches(epoch)) == sorted(interleaved)
    for epoch in (1, 2):
        interleaved = factory(steps=6).batches(epoch)
        mixed = factory(steps=6, order="mixed").batches(epoch)
        assert ["".join(u[0] for u in batch) for batch in mixed] == ["aas", "as"] * 3
        assert sorted(u for batch in mixed for u in batch) == sorted(u for batch in interleaved for u in batch)
    with pytest.raises(ValueError, match="unknown task_order 'random'; known are interleaved, sequential, mixed"):
        factory(order="random")


def test_mixed_epochs_go_on_within_a_round() -> None:
    options: dict[str, Any] = {"pattern": {A: 1, S: 1}, "order": "mixed"}
    short = [batch for epoch in range(1, 7) for batch in factory(steps=5, **options).batches(epoch)]
    assert short == factory(steps=30, **options).batches(1)


def test_a_task_of_weight_0_is_left_out_of_training_and_validation() -> None:
    for shuffle in (True, False):
        made = factory(pattern={A: 0, S: 1}, shuffle=shuffle)
        assert list(made.streams) == [S]
        assert {utterance[0] for batch in made.batches(1) for utterance in batch} == {"s"}


def test_an_epoch_of_no_given_length_is_whole_rounds() -> None:
    assert factory(steps=None).steps == 8
    assert factory(steps=None, pattern={A: 2, S: 1}).steps == 9
    assert factory(steps=None, pattern={A: 1, S: 0}).steps == 5
    assert factory(steps=None, accum_grad=3, order="mixed").steps == 12


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
    with pytest.raises(ValueError, match="a batch may have 2 utterances of task ser for 3 processes; use larger b"):
        factory(world_size=3)


def test_every_process_gets_every_task_of_a_mixed_batch() -> None:
    large = {A: TaskBatches([[f"a{k}" for k in range(8)]], 0), S: TaskBatches([[f"s{k}" for k in range(9)]], 1)}
    options: dict[str, Any] = {"pattern": {A: 2, S: 1}, "order": "mixed", "world_size": 3}
    for rank in range(3):
        for batch in factory(large, rank=rank, **options).batches(1):
            assert {utterance[0] for utterance in batch} == {"a", "s"}
    message = "--task_order mixed: a batch may have 3 utterances of task ser for 4 processes; use larger batches"
    with pytest.raises(ValueError, match=message):
        factory(large, **{**options, "world_size": 4})
    factory(large, **{**options, "world_size": 4}, shuffle=False)  # validation batches are not mixed


@pytest.mark.parametrize("order", ["mixed", "sequential"])
def test_only_interleaved_batches_are_added_up_by_rounds(order: str) -> None:
    assert factory(accum_grad=3, steps=6, order=order).steps == 6
    with pytest.raises(ValueError, match="--num_iters_per_epoch 7 is no multiple of --accum_grad 3"):
        factory(accum_grad=3, steps=7, order=order)


@pytest.fixture
def shapes(tmp_path: Path) -> list[str]:
    """Speech and text shapes of six utterances of each task, longest first in the middle."""
    lengths = [(f"{task}{k}", 100 * (k + 1)) for k in range(6) for task in "as"]
    (tmp_path / "speech_shape").write_text("".join(f"{key} {size}\n" for key, size in lengths))
    (tmp_path / "text_shape").write_text("".join(f"{key} 3,10\n" for key, _ in lengths))
    return [str(tmp_path / name) for name in ("speech_shape", "text_shape")]


UTT2TASK = {f"{task[0]}{k}": task for k in range(6) for task in (A, S)}


def batch_by_task(
    shapes: list[str],
    options: dict[str, Any],
    per_task: dict[str, Any] | None = None,
    utt2task: dict[str, str] | None = None,
    table: dict[str, Any] = TABLE,
    text_file: str = "text",
) -> dict[str, TaskBatches]:
    return task_batches(utt2task or UTT2TASK, shapes, options, per_task or {}, 0, build_tasks(table), text_file)


def sampler(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "batch_size": 3, "batch_bins": 1500, "sort_batch": "ascending", **more}


@pytest.mark.parametrize("kind", ["sorted", "numel", "folded", "unsorted"])
def test_espnet_s_samplers_batch_each_task_by_itself(kind: str, shapes: list[str]) -> None:
    options = sampler(kind, fold_lengths=[1000, 100] if kind == "folded" else [])
    streams = batch_by_task(shapes, options)
    for task, stream in streams.items():
        assert sorted(u for batch in stream.batches for u in batch) == [f"{task[0]}{k}" for k in range(6)]
        assert stream.redraw == (kind == "unsorted")
    sizes = {batch[0]: len(batch) for batch in streams[A].batches}
    assert sizes == ({"a3": 4, "a5": 2} if kind == "numel" else dict.fromkeys(sizes, 3))


def test_a_task_may_have_its_own_kind_and_size_of_batch(shapes: list[str]) -> None:
    streams = batch_by_task(shapes, sampler("sorted"), {S: {"type": "unsorted", "batch_size": 2}})
    assert [len(batch) for batch in streams[S].batches] == [2, 2, 2] and streams[S].redraw
    assert sorted(streams[A].batches) == [("a2", "a1", "a0"), ("a5", "a4", "a3")] and not streams[A].redraw
    assert streams[A].seed != streams[S].seed


def test_a_task_s_batches_are_redrawn_on_request(shapes: list[str]) -> None:
    own: dict[str, Any] = {A: {"redraw": 0.5}, S: {"type": "unsorted", "redraw": 0}}
    streams = batch_by_task(shapes, sampler("sorted"), own)
    assert (streams[A].redraw, streams[S].redraw) == (0.5, 0)
    assert len({frozenset(batch) for batch in streams[A].take(0, 40)}) > 2
    assert len({frozenset(batch) for batch in streams[S].take(0, 40)}) == 2
    with pytest.raises(ValueError, match="task_batches: task 'asr': redraw is 2, expected a share from 0 to 1"):
        batch_by_task(shapes, sampler("sorted"), {A: {"redraw": 2}})


def test_utterances_without_a_task_and_tasks_without_utterances_are_named(shapes: list[str]) -> None:
    told = {key: task for key, task in UTT2TASK.items() if key not in ("a3", "s4")}
    with pytest.raises(ValueError, match="speech_shape: 2 utterances are not in utt2task, the first is a3"):
        batch_by_task(shapes, sampler("sorted"), utt2task=told)
    with pytest.raises(ValueError, match=r"task_batches names \['age'\], but the data hold only \['asr', 'ser'\]"):
        batch_by_task(shapes, sampler("sorted"), {"age": {"batch_size": 2}})
    with pytest.raises(ValueError, match=r"utt2task names \['ser'\], the table of tasks has \['asr'\]"):
        batch_by_task(shapes, sampler("sorted"), table={A: TABLE[A]})


def test_tasks_take_turns_in_the_order_of_the_table(shapes: list[str]) -> None:
    table = {S: TABLE[S], "gender": GENDER, A: TABLE[A]}
    assert list(batch_by_task(shapes, sampler("sorted"), table=table)) == [S, A]


def test_a_label_task_s_batches_are_balanced_on_request(shapes: list[str], tmp_path: Path) -> None:
    labels = dict(zip([f"s{k}" for k in range(6)], ["ang", "neu", "neu", "neu", "neu", "sad"], strict=True))
    text = tmp_path / "text"
    text.write_text("".join(f"{key} {labels.get(key, 'ONE')}\n" for key in UTT2TASK))
    balanced = {S: {"type": "unsorted", "balanced": True}}
    streams = batch_by_task(shapes, sampler("sorted"), balanced, text_file=str(text))
    assert type(streams[S]) is BalancedBatches and type(streams[A]) is TaskBatches
    for batch in streams[S].take(0, 20):
        assert sorted(labels[member] for member in batch) == ["ang", "neu", "sad"]
    assert sorted(u for batch in streams[S].batches for u in batch) == sorted(labels)  # validation: everyone once
    text.write_text("s0 ang\ns1 neu\n")
    with pytest.raises(ValueError, match="text: 4 utterances of task 'ser' are missing, first s2"):
        batch_by_task(shapes, sampler("sorted"), balanced, text_file=str(text))


def test_batches_that_cannot_be_balanced_are_refused(shapes: list[str]) -> None:
    with pytest.raises(ValueError, match="task 'asr' answers with text, so it has no labels to balance; leave out bal"):
        batch_by_task(shapes, sampler("unsorted"), {A: {"balanced": True}})
    with pytest.raises(ValueError, match="task 'ser' has balanced with type sorted, but .* take type: unsorted"):
        batch_by_task(shapes, sampler("sorted"), {S: {"balanced": True}})
    with pytest.raises(ValueError, match=r"task 'ser' has balanced with redraw 0\.1, but .* leave out redraw"):
        batch_by_task(shapes, sampler("unsorted"), {S: {"balanced": True, "redraw": 0.1}})
