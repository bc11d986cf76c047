"""The iterator: the order and the utterances of an epoch's batches, which depend only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.data.schedule import TaskBatches

STREAMS = {
    "asr": TaskBatches([(f"a{3 * k}", f"a{3 * k + 1}", f"a{3 * k + 2}") for k in range(5)], seed=0),
    "ser": TaskBatches([(f"s{2 * k}", f"s{2 * k + 1}") for k in range(3)], seed=1, shuffle_window=1.0),
}
A, S = "asr", "ser"


class Numbers:
    """A dataset like ESPnet's: utterance -> (utterance, arrays)."""

    def __getitem__(self, utterance: str) -> tuple[str, dict[str, Any]]:
        return utterance, {"x": torch.tensor([int(utterance[1:])]).numpy()}


def stack(examples: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Collate arrays of one number each."""
    return [key for key, _ in examples], {"x": torch.tensor(np.stack([arrays["x"] for _, arrays in examples]))}


def factory(streams: Mapping[str, TaskBatches] = STREAMS, **options: Any) -> TaskIterFactory:
    options = {"pattern": "round_robin", "steps": 7, **options}
    workers = options.pop("num_workers", 0)
    loader = {"dataset": Numbers(), "seed": 0, "num_workers": workers, "collate_fn": stack}
    return TaskIterFactory(streams, loader=loader, **options)


def order(batches: list[tuple[str, ...]]) -> str:
    return "".join(batch[0][0] for batch in batches)


def test_epochs_are_a_function_of_seed_and_epoch_alone() -> None:
    epochs = [factory().batches(epoch) for epoch in (1, 2, 3, 4)]
    assert [factory().batches(epoch) for epoch in (3, 4)] == epochs[2:]
    assert epochs[0] != epochs[1]
    other = {task: TaskBatches(stream.batches, 9, stream.shuffle_window) for task, stream in STREAMS.items()}
    assert [factory(other).batches(epoch) for epoch in (1, 2, 3, 4)] != epochs


def test_each_epoch_continues_where_the_previous_one_ended() -> None:
    short = [batch for epoch in range(1, 7) for batch in factory(steps=5).batches(epoch)]
    assert short == factory(steps=30).batches(1)


@pytest.mark.parametrize("pattern", ["round_robin", "proportional", {A: 3, S: 2}])
def test_every_batch_has_one_task_and_every_pass_each_utterance_once(pattern: Any) -> None:
    batches = [batch for epoch in range(1, 40) for batch in factory(pattern=pattern).batches(epoch)]
    assert all(len({utterance[0] for utterance in batch}) == 1 for batch in batches)
    for task, utterances in (("a", [f"a{k}" for k in range(15)]), ("s", [f"s{k}" for k in range(6)])):
        stream = [batch for batch in batches if batch[0][0] == task]
        size = len(STREAMS[A if task == "a" else S])
        for start in range(0, len(stream) - size, size):
            assert sorted(u for batch in stream[start : start + size] for u in batch) == sorted(utterances)


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
    iterator = factory(pattern=pattern, steps=steps)
    assert [order(iterator.batches(epoch)) for epoch in (1, 2)] == expected


def test_task_orders_literally() -> None:
    iterator = factory(pattern={A: 2, S: 1}, steps=6, order="sequential")
    assert [order(iterator.batches(epoch)) for epoch in (1, 2)] == ["aaaass"] * 2
    for epoch in (1, 2):
        interleaved = factory(pattern={A: 2, S: 1}, steps=6).batches(epoch)
        assert sorted(iterator.batches(epoch)) == sorted(interleaved)
    for epoch in (1, 2):
        interleaved = factory(steps=6).batches(epoch)
        mixed = factory(steps=6, order="mixed").batches(epoch)
        assert ["".join(u[0] for u in batch) for batch in mixed] == ["aas", "as"] * 3
        assert sorted(u for batch in mixed for u in batch) == sorted(u for batch in interleaved for u in batch)
    with pytest.raises(ValueError, match="unknown task_order 'random'; choose from interleaved, sequential, mixed"):
        factory(order="random")


def test_a_mixed_epoch_may_end_within_a_round() -> None:
    options: dict[str, Any] = {"pattern": {A: 1, S: 1}, "order": "mixed"}
    short = [batch for epoch in range(1, 7) for batch in factory(steps=5, **options).batches(epoch)]
    assert short == factory(steps=30, **options).batches(1)


def test_a_task_of_weight_0_is_left_out_of_training_and_validation() -> None:
    for shuffle in (True, False):
        iterator = factory(pattern={A: 0, S: 1}, shuffle=shuffle)
        assert list(iterator.streams) == [S]
        assert {utterance[0] for batch in iterator.batches(1) for utterance in batch} == {"s"}


def test_an_epoch_without_a_given_length_has_whole_rounds() -> None:
    assert factory(steps=None).steps == 8
    assert factory(steps=None, pattern={A: 2, S: 1}).steps == 9
    assert factory(steps=None, pattern={A: 1, S: 0}).steps == 5
    assert factory(steps=None, accum_grad=3, order="mixed").steps == 12


def test_ranks_share_every_batch_so_that_all_have_the_same_task() -> None:
    whole = factory().batches(2)
    ranks = [factory(rank=rank, world_size=2).batches(2) for rank in (0, 1)]
    for batch, *shards in zip(whole, *ranks, strict=True):
        assert sorted(shards[0] + shards[1]) == sorted(batch) and not set(shards[0]) & set(shards[1])
        assert all(shards)


def test_validation_lists_every_batch_once_in_order() -> None:
    for epoch in (1, 5):
        assert factory(shuffle=False).batches(epoch) == [*STREAMS[A].batches, *STREAMS[S].batches]


def test_the_number_of_workers_does_not_change_the_batches() -> None:
    sequences = [
        [(ids, batch["x"].tolist()) for ids, batch in factory(num_workers=workers).build_iter(2)] for workers in (0, 2)
    ]
    assert sequences[0] == sequences[1] and len(sequences[0]) == 7
    assert [tuple(ids) for ids, _ in sequences[0]] == factory().batches(2)


@pytest.mark.parametrize(
    ("pattern", "accum_grad", "steps"), [("round_robin", 2, None), ({A: 2, S: 1}, 6, 12), ({A: 4, S: 2}, 3, 9)]
)
def test_every_optimizer_step_has_the_tasks_in_the_pattern_s_proportion(
    pattern: Any, accum_grad: int, steps: int | None
) -> None:
    iterator = factory(pattern=pattern, accum_grad=accum_grad, steps=steps)
    assert iterator.steps % accum_grad == 0  # ESPnet would carry the remainder over
    shares = set()
    for epoch in (1, 2, 3):
        batches = iterator.batches(epoch)
        for start in range(0, len(batches), accum_grad):
            window = batches[start : start + accum_grad]
            shares.add(sum(batch[0].startswith("a") for batch in window) / len(window))
    assert shares == ({0.5} if pattern == "round_robin" else {2 / 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pattern": {A: 2, S: 1}, "accum_grad": 2},
            "--accum_grad 2 is not a multiple of 3, the length of the pattern asr,ser,asr: .* different proportions; "
            "use 3$",
        ),
        ({"pattern": {A: 2, S: 1}, "accum_grad": 7}, "use 6 or 9$"),
        (
            {"pattern": {A: 20, S: 1}, "accum_grad": 2},
            "not a multiple of 21, the length of the pattern {'asr': 20, 'ser': 1}",
        ),
        (
            {"pattern": "round_robin", "accum_grad": 4, "steps": 10},
            "--num_iters_per_epoch 10 is not a multiple of --accum_grad 4: ESPnet would carry the gradients of the "
            "last 2 batches over to the next epoch; use 8 or 12$",
        ),
    ],
)
def test_accumulation_in_other_proportions_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory(**options)


def test_a_batch_must_have_utterances_for_all_processes() -> None:
    with pytest.raises(ValueError, match="a batch can have only 2 utterances of task ser for 3 processes; use larger"):
        factory(world_size=3)


def test_every_process_has_every_task_of_a_mixed_batch() -> None:
    large = {A: TaskBatches([[f"a{k}" for k in range(8)]], 0), S: TaskBatches([[f"s{k}" for k in range(9)]], 1)}
    options: dict[str, Any] = {"pattern": {A: 2, S: 1}, "order": "mixed", "world_size": 3}
    for rank in range(3):
        for batch in factory(large, rank=rank, **options).batches(1):
            assert {utterance[0] for utterance in batch} == {"a", "s"}
    message = "--task_order mixed: a batch can have only 3 utterances of task ser for 4 processes; use larger batches"
    with pytest.raises(ValueError, match=message):
        factory(large, **{**options, "world_size": 4})
    factory(large, **{**options, "world_size": 4}, shuffle=False)  # validation batches are not mixed


@pytest.mark.parametrize("order", ["mixed", "sequential"])
def test_only_interleaved_batches_are_accumulated_by_rounds(order: str) -> None:
    assert factory(accum_grad=3, steps=6, order=order).steps == 6
    with pytest.raises(ValueError, match="--num_iters_per_epoch 7 is not a multiple of --accum_grad 3"):
        factory(accum_grad=3, steps=7, order=order)
