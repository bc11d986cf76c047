"""Experiment folders: paths, and one record per folder, also of folders written by earlier versions."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.experiment import DecodeDir, Experiment, read_run, update_run


def test_entries_are_added_and_replaced_and_the_others_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    assert read_run(folder) == {}
    update_run(folder, jobs=1, train_args="--seed 1")
    update_run(folder, jobs=2, audio_seconds=3.5)
    assert read_run(folder) == {"jobs": 2, "train_args": "--seed 1", "audio_seconds": 3.5}
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_failed_write_leaves_the_record_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update_run(tmp_path, jobs=1)
    before = (tmp_path / "run.json").read_bytes()

    def disk_full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", disk_full)
        with pytest.raises(OSError, match="cannot write to this folder .No space left on device"):
            update_run(tmp_path, jobs=2)
    assert (tmp_path / "run.json").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"jobs"', ":1: not valid JSON: Expecting ':' delimiter; rerun the stage that writes it"),
        ("[1]", ": expected a JSON mapping, got [1]; rerun the stage that writes it"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError) as error:
        read_run(tmp_path)
    assert str(error.value) == f"{tmp_path}/run.json{message}"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1\n", ":2: not valid YAML: expected ',' or ']', but got '<stream end>'; correct it"),
        ("- a\n", ": expected a mapping of options, got ['a']; rerun the stage that writes it"),
        ("a: 1\na: 2\n", ":2: not valid YAML: duplicate key 'a', also in line 1; correct it"),
        ("[" * 20000, ": brackets are nested too deeply; correct the YAML"),
    ],
    ids=["brackets", "list", "duplicate", "nested"],
)
def test_a_damaged_training_configuration_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError) as error:
        Experiment(tmp_path).read_config()
    assert str(error.value) == f"{tmp_path}/config.yaml{message}"


@pytest.mark.bad_input
def test_a_damaged_record_of_version_0_1_is_named(tmp_path: Path) -> None:
    (tmp_path / "made_with.json").write_text('{"train": [1]}')
    with pytest.raises(InputError) as error:
        read_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/made_with.json: expected a JSON mapping, got [1]; rerun the stage that writes it"
    )


def test_an_experiment_of_version_0_1_has_the_same_record(tmp_path: Path) -> None:
    """Its cost and its configurations were in two files."""
    train = {"config": {"max_epoch": 2}, "train_args": "--seed 1"}
    decode = {"valid.acc.ave/test_asr": {"beam_size": 1}}
    (tmp_path / "cost.json").write_text(json.dumps({"memory": 3000, "jobs": 2, "audio_seconds": 540.0}))
    (tmp_path / "made_with.json").write_text(json.dumps({"train": train, **decode}))
    old = {"peak_memory_bytes": 3000, "jobs": 2, "audio_seconds": 540.0, **train, "decode_configs": decode}
    assert read_run(tmp_path) == old
    update_run(tmp_path, jobs=1)
    assert json.loads((tmp_path / "run.json").read_text()) == {**old, "jobs": 1}


def test_a_decode_folder_of_version_0_1_has_the_same_record(tmp_path: Path) -> None:
    """Its layer weights and its speed were in two files."""
    selection = {"parameters": 10, "trained_parameters": 7, "tasks": {"asr": {"layer_weights": [1.0]}}}
    speed = {"audio_seconds": 50.0, "seconds": 10.0, "rtf": 0.2}
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    (tmp_path / "speed.json").write_text(json.dumps(speed))
    assert read_run(tmp_path) == {**selection, **speed}
    update_run(tmp_path)
    (tmp_path / "speed.json").write_text("{}")
    assert read_run(tmp_path) == {**selection, **speed}  # run.json is the only source now


def test_an_ablation_of_version_0_1_was_prepared_for_unknown_test_sets(tmp_path: Path) -> None:
    (tmp_path / "prepared").touch()
    assert read_run(tmp_path) == {"prepared_test_sets": None}


def test_decoded_and_scored_test_sets_are_sorted(tmp_path: Path) -> None:
    for name in ("decode_b/test", "decode_a/test", "decode_a/dev", "stats/test"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "decode_a" / "log").touch()
    DecodeDir(tmp_path / "decode_b" / "test").scores.touch()
    experiment = Experiment(tmp_path)
    assert [(one.tag, one.test_set) for one in experiment.decoded()] == [("a", "dev"), ("a", "test"), ("b", "test")]
    assert [one.name for one in experiment.scored()] == ["decode_b/test"]
    assert experiment.decode_dir("b", "test") == next(experiment.scored())


def test_pretraining_is_each_experiment_in_init_param_that_exists(tmp_path: Path) -> None:
    assert Experiment(tmp_path).pretraining() == [] and Experiment(tmp_path).read_config() == {}
    encoder = Experiment(tmp_path / "encoder")
    encoder.dir.mkdir()
    encoder.checkpoint.touch()
    starts = [f"{encoder.dir}/valid.acc.ave.pth:{part}:{part}" for part in ("frontend", "ctc")]
    Experiment(tmp_path).config.write_text(json.dumps({"init_param": [*starts, "elsewhere/model.pth"]}))
    assert Experiment(tmp_path).pretraining() == [encoder]


def epoch(loss: float) -> dict[str, Any]:
    """Return ESPnet's statistics of one epoch: Python's and NumPy's numbers, and a time."""
    train = {"loss": loss, "grad_norm": np.float64(1.5), "time": datetime.timedelta(seconds=90), "total_count": 6}
    return {"train": train, "valid": {"loss": np.float32(2.0), "count": np.int64(3)}}


def test_the_statistics_of_the_epochs_are_read_in_order(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    torch.save(
        {"model": {"a": torch.zeros(3)}, "reporter": {"stats": {2: epoch(0.5), 1: epoch(0.9)}, "epoch": 2}},
        experiment.checkpoint,
    )
    assert experiment.epochs() == [epoch(0.9), epoch(0.5)]


def test_a_checkpoint_is_read_without_running_its_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/RAN",)

    experiment = Experiment(tmp_path)
    torch.save({"reporter": {"stats": {1: epoch(0.9)}}, "zz": Payload()}, experiment.checkpoint)
    with pytest.raises(InputError) as error:
        experiment.epochs()
    assert not (tmp_path / "RAN").exists()
    assert str(error.value) == (
        f"{tmp_path}/checkpoint.pth: this pickle file needs {os.name}.system, which would run code of the file's "
        "author; ask for a model whose weights are a .safetensors file"
    )


def test_a_damaged_checkpoint_is_named_with_its_size(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    torch.save({"reporter": {"stats": {1: epoch(0.9)}}}, experiment.checkpoint)
    experiment.checkpoint.write_bytes(experiment.checkpoint.read_bytes()[:700])
    with pytest.raises(InputError) as error:
        experiment.epochs()
    assert str(error.value) == (
        f"{tmp_path}/checkpoint.pth: damaged or incomplete, 700 bytes (PytorchStreamReader failed reading zip archive: "
        "failed finding central directory); run stage 6 (training) again"
    )


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, {"reporter": None}, [1]])
def test_a_checkpoint_without_statistics_is_named(content: Any, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    torch.save(content, experiment.checkpoint)
    with pytest.raises(InputError) as error:
        experiment.epochs()
    assert str(error.value) == (
        f"{tmp_path}/checkpoint.pth: no statistics of the epochs (reporter, stats), so this is no checkpoint of stage "
        "6 (training); run stage 6 again"
    )
