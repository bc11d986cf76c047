"""The cost of a run, from the records of training and decoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from fake_recipe import write_checkpoint, write_scores
from tiny import Recipe

from harmonifuse_espnet.ablation import cost
from harmonifuse_espnet.ablation.cost import (
    mean_of,
    read_cost,
    record_audio_seconds,
    record_peak_memory,
    training_audio_seconds,
)
from harmonifuse_espnet.common.experiment import read_run
from harmonifuse_espnet.data.iterator import TaskIterFactory


def test_the_cost_of_a_known_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of 90 s and 30 s; 540 s of audio in 180 s of training; 10 s for 50 s of audio, on two sets."""
    assert read_cost(tmp_path, "x") is None
    write_checkpoint(tmp_path / "checkpoint.pth")
    write_scores(tmp_path / "decode_x", [0, 1] * 4, [0, 1] * 4)
    record_peak_memory(tmp_path, 3000, jobs=1)
    record_peak_memory(tmp_path, 2000, jobs=2)
    monkeypatch.setattr(cost, "training_audio_seconds", lambda exp_dir: 540.0)
    record_audio_seconds(tmp_path)
    found = read_cost(tmp_path, "x")
    assert found == cost.Cost(1000, 900, minutes=4.0, audio_rate=3.0, memory=3000, rtf=0.2, jobs=2)


def test_the_cost_of_version_0_1_is_the_same(tmp_path: Path) -> None:
    """Its records are in three files."""
    write_checkpoint(tmp_path / "checkpoint.pth")
    write_scores(tmp_path / "decode_x", [0, 1] * 4, [0, 1] * 4)
    for name in ("test_asr", "test_ser"):
        folder = tmp_path / "decode_x" / name
        record = read_run(folder)
        (folder / "run.json").unlink()
        speed = {key: record.pop(key) for key in ("audio_seconds", "seconds", "rtf")}
        (folder / "speed.json").write_text(json.dumps(speed))
        (folder / "selection.json").write_text(json.dumps(record))
    (tmp_path / "cost.json").write_text(json.dumps({"memory": 3000, "jobs": 2, "audio_seconds": 540.0}))
    found = read_cost(tmp_path, "x")
    assert found == cost.Cost(1000, 900, minutes=4.0, audio_rate=3.0, memory=3000, rtf=0.2, jobs=2)


def test_values_that_were_not_recorded_are_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pth")
    assert read_cost(tmp_path, "x") == cost.Cost(None, None, 4.0, None, None, None, None)
    assert mean_of([None, 1.0, 3.0]) == 2.0 and mean_of([None]) is None


def test_on_a_gpu_the_peak_memory_is_that_of_the_gpu(tmp_path: Path) -> None:
    train = {"time": timedelta(seconds=9), "total_count": 1, "gpu_max_cached_mem_GB": 1.5}
    torch.save({"reporter": {"stats": {1: {"train": train}}}}, tmp_path / "checkpoint.pth")
    record_peak_memory(tmp_path, 3000, jobs=1)
    found = read_cost(tmp_path, "x")
    assert found is not None and found.memory == 1.5 * 2**30


def test_audio_seconds_are_those_of_the_training_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw").mkdir()
    recipe = Recipe(tmp_path / "raw")
    seen: list[str] = []
    build_iter = TaskIterFactory.build_iter

    def recording(self: TaskIterFactory, epoch: int, shuffle: bool | None = None) -> Iterator[tuple[list[str], Any]]:
        for keys, batch in build_iter(self, epoch, shuffle):
            seen.extend(keys if self.shuffle else [])
            yield keys, batch

    with monkeypatch.context() as patch:
        patch.setattr(TaskIterFactory, "build_iter", recording)
        exp_dir = recipe.train("slm", {"num_iters_per_epoch": 5, "task_pattern": {"asr": 2, "ser": 1}}, max_epoch=2)
    frames = sum(soundfile.info(recipe.folder / "train" / f"{key}.flac").frames for key in seen)
    assert len(seen) == 2 * 5 * 3
    assert training_audio_seconds(exp_dir) == pytest.approx(frames / 16000)
    record_audio_seconds(exp_dir)
    assert read_run(exp_dir)["audio_seconds"] == pytest.approx(frames / 16000)
