"""Step plan: steps by task, the largest batches, and the batches that are timed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.data.schedule import TaskBatches
from harmonifuse_espnet.model.activations import BatchShape
from harmonifuse_espnet.train.step_plan import (
    largest_batches,
    lengths_at_slowest_speed,
    read_lengths,
    representative_batches,
    seconds_per_step,
    steps_by_task,
)

LENGTHS = {"a": (100, 9), "b": (90, 2), "c": (40, 3), "d": (30, 20), "e": (20, 1), "f": (10, 1)}
SORTED = [("a", "b"), ("c", "d", "e"), ("f",)]


def test_lengths_are_read_from_the_shape_files_of_stage_5(tmp_path: Path) -> None:
    for name, lines in (("speech_shape", "a 16000\nb 200,80\n"), ("text_shape", "a 5,100\nb 7,100\n")):
        (tmp_path / name).write_text(lines)
    files = [str(tmp_path / name) for name in ("speech_shape", "text_shape")]
    assert read_lengths(files) == {"a": (16000, 5), "b": (200, 7)}
    with pytest.raises(
        ValueError, match=r"--train_shape_file: expected speech_shape and text_shape of stage 5, got \["
    ):
        read_lengths(files[:1])


def test_the_largest_batches_have_the_most_speech_and_the_most_text() -> None:
    batches = largest_batches(TaskBatches(SORTED, seed=0), LENGTHS, ranks=1, prompt=4)
    assert batches == [BatchShape(2, 100, 9, 4), BatchShape(3, 40, 20, 4)]
    halves = largest_batches(TaskBatches(SORTED, seed=0), LENGTHS, ranks=2, prompt=4)
    assert [shape.utterances for shape in halves] == [1, 2]


def test_lengths_are_those_after_the_slowest_speed_perturbation() -> None:
    longer = lengths_at_slowest_speed(LENGTHS, [1.1, 0.9, 1.0])
    assert longer["a"] == (112, 9) and longer["b"] == (100, 2)  # rounded up
    stream = TaskBatches(SORTED, seed=0)
    assert largest_batches(stream, longer, ranks=1, prompt=4) == [BatchShape(2, 112, 9, 4), BatchShape(3, 45, 20, 4)]
    assert lengths_at_slowest_speed(LENGTHS, [1.0]) == LENGTHS


def test_with_a_shuffle_window_the_longest_utterances_can_be_in_one_batch() -> None:
    stream = TaskBatches(SORTED, seed=0, shuffle_window=1.0)
    assert largest_batches(stream, LENGTHS, ranks=1, prompt=4) == [BatchShape(3, 100, 20, 4)]


def test_steps_by_task_follow_the_sampling_weights() -> None:
    streams = {"asr": TaskBatches(SORTED, 0), "ser": TaskBatches(SORTED, 1)}
    options: dict[str, Any] = {"streams": streams, "loader": {}}
    assert steps_by_task(TaskIterFactory(pattern={"asr": 2, "ser": 1}, steps=60, **options)) == {"asr": 40, "ser": 20}
    assert steps_by_task(TaskIterFactory(pattern="round_robin", steps=None, **options)) == {"asr": 3, "ser": 3}


def test_measured_batches_are_the_largest_and_evenly_spread_ones() -> None:
    lengths = {str(size): (size, 1) for size in range(1, 11)}
    stream = TaskBatches([(key,) for key in lengths], seed=0)
    assert representative_batches(stream, lengths, 1) == [("10",), ("6",)]
    assert representative_batches(stream, lengths, 5) == [("10",), ("2",), ("4",), ("6",), ("8",), ("10",)]


def test_the_time_of_a_step_includes_waiting_for_its_batch() -> None:
    class Model(torch.nn.Linear):
        def forward(self, speech: torch.Tensor) -> tuple[torch.Tensor]:
            return (super().forward(speech).sum(),)

    def collate(rows: list[str]) -> tuple[list[str], dict[str, torch.Tensor]]:
        time.sleep(0.3 if "a" in rows else 0.05)
        return rows, {"speech": torch.ones(len(rows), 4)}

    streams = {"asr": TaskBatches(SORTED, 0)}
    loader = {"dataset": {key: key for key in LENGTHS}, "collate_fn": collate, "num_workers": 0}
    factory, model = TaskIterFactory(streams, "round_robin", None, loader), Model(4, 1)
    seconds = seconds_per_step(model, torch.optim.SGD(model.parameters(), 0.1), factory, SORTED, amp=False)
    assert 0.05 <= seconds < 0.15  # without the first batch of 0.3 s, the warm-up
