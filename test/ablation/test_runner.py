"""Runs: finished stages are not repeated, changed configurations are refused, a failure does not stop other runs."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_recipe import make_recipe, write_checkpoint, write_config

from harmonifuse_espnet.ablation import cost
from harmonifuse_espnet.ablation.runner import Recipe, RunFailed, run_all
from harmonifuse_espnet.ablation.spec import Ablation, Run, read_ablation
from harmonifuse_espnet.ablation.status import is_finished, is_trained
from harmonifuse_espnet.common.experiment import read_run

EXPDIR = Path("exp/ablation")
MODEL = EXPDIR / "ours_seed1" / "valid.acc.ave.pth"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the recipe, at a path with a space; epochs of 180 seconds of audio."""
    monkeypatch.chdir(make_recipe(tmp_path / "a recipe"))
    monkeypatch.setattr(cost, "training_audio_seconds", lambda exp_dir: 360.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return Path()


@pytest.fixture
def ablation() -> Ablation:
    return read_ablation(Path("conf/ablation.yaml"))


def calls() -> list[str]:
    """Return the calls of run.sh since the last call of this function."""
    path = Path("calls")
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return lines


def first_run(ablation: Ablation) -> Run:
    return ablation.runs(EXPDIR)[0]


def test_a_run_is_trained_then_decoded_and_scored_once_for_each_configuration(ablation: Ablation) -> None:
    recipe = Recipe(EXPDIR, "--max_epoch 2", ["--ngpu", "1"])
    recipe.run(first_run(ablation), ablation.decode)
    folder = "--expdir exp --tag ablation/ours_seed1 --train_config conf/train.yaml"
    assert calls() == [
        f"OMP=2 --stage 6 --stop_stage 6 {folder} --train_args --seed 1 --max_epoch 2 --ngpu 1",
        f"OMP=2 --stage 7 --stop_stage 8 {folder} --inference_config conf/decode.yaml "
        "--inference_model valid.acc.ave.pth --inference_tag valid.acc.ave --test_sets test_asr test_ser "
        "--results exp/ablation/ours_seed1/RESULTS.md --ngpu 1",
    ]
    assert "stage 6 of ablation/ours_seed1\nstage 7 of" in (EXPDIR / "ours_seed1" / "ablation.log").read_text()
    record = read_run(EXPDIR / "ours_seed1")
    assert record["jobs"] == 1 and record["audio_seconds"] == 360.0
    assert record["train_args"] == "--seed 1 --max_epoch 2" and record["config"]["max_epoch"] == 2
    sets = ("test_asr", "test_ser")
    assert record["decode_configs"] == {f"valid.acc.ave/{name}": {"beam_size": 1} for name in sets}
    assert 1e6 < record["peak_memory_bytes"] < 1e8  # of a shell, not of this large process
    assert not (EXPDIR / "ours_seed1" / "peak_memory").exists()


def test_several_jobs_have_one_thread_each(ablation: Ablation) -> None:
    Recipe(EXPDIR, jobs=2).run(first_run(ablation), ablation.decode)
    assert all(call.startswith("OMP=1 ") and " --nproc 1" in call for call in calls())


def test_finished_runs_are_not_repeated(ablation: Ablation, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ablation.runs(EXPDIR)
    assert run_all(Recipe(EXPDIR, jobs=2), ablation, runs) == []
    assert len(calls()) == 2 * len(runs)
    assert run_all(Recipe(EXPDIR), ablation, runs) == []
    assert calls() == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 runs, 0 already finished" and lines[-1] == "6 runs, 6 already finished"
    assert "ours seed 1: finished after 0.0 minutes; " in "\n".join(lines) and lines[-2].endswith("; no runs left")


def test_training_is_resumed_until_max_epoch_is_reached_and_the_model_exists(ablation: Ablation) -> None:
    run, recipe = first_run(ablation), Recipe(EXPDIR)
    recipe.run(run, ablation.decode)
    write_checkpoint(run.exp_dir / "checkpoint.pth", epochs=1)
    assert not is_trained(run)
    recipe.run(run, ablation.decode)
    assert is_trained(run)
    MODEL.unlink()
    assert not is_trained(run)


def test_scores_older_than_the_model_or_of_another_configuration_are_replaced(ablation: Ablation) -> None:
    run, recipe = first_run(ablation), Recipe(EXPDIR)
    recipe.run(run, ablation.decode)
    later = time.time() + 60
    os.utime(MODEL, (later, later))
    assert not is_finished(run, ablation.decode)
    os.utime(MODEL, (0, 0))
    assert is_finished(run, ablation.decode)
    write_config(Path(), "decode", {"beam_size": 4})
    calls()
    recipe.run(run, ablation.decode)
    assert [call.split()[2] for call in calls()] == ["7"]
    assert is_finished(run, ablation.decode)


def test_another_training_configuration_is_refused_and_the_change_is_named(ablation: Ablation) -> None:
    run = ablation.runs(EXPDIR)[2]
    Recipe(EXPDIR).check_unchanged(run)
    Recipe(EXPDIR).run(run, ablation.decode)
    Recipe(EXPDIR).check_unchanged(run)
    with pytest.raises(ValueError, match="naive_seed1 was .* train_args was --seed 1, is now --seed 1 --max_epoch 3 "):
        Recipe(EXPDIR, "--max_epoch 3").check_unchanged(run)
    write_config(Path(), "train", {"optim_conf": {"lr": 0.2}, "max_epoch": 2})  # the base of its configuration
    with pytest.raises(ValueError, match=r"optim_conf.lr was 0.1, is now 0.2 \(conf/naive.yaml\); remove that folder"):
        Recipe(EXPDIR).check_unchanged(run)


def test_a_folder_that_was_not_trained_by_an_ablation_is_refused(ablation: Ablation) -> None:
    run = first_run(ablation)
    run.exp_dir.mkdir(parents=True)
    write_checkpoint(run.exp_dir / "checkpoint.pth")
    with pytest.raises(ValueError, match="ours_seed1 was not trained by an ablation; remove it"):
        Recipe(EXPDIR).check_unchanged(run)


def test_a_failed_run_names_its_log_and_the_others_are_completed(
    ablation: Ablation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIL", "naive_seed1:6")
    failed = run_all(Recipe(EXPDIR), ablation, ablation.runs(EXPDIR))
    assert [run.name for run in failed] == ["naive seed 1"]
    message = "naive seed 1: FAILED (./run.sh --stage 6 --stop_stage 6 failed with exit status 3; see "
    assert f"{message}exp/ablation/naive_seed1/ablation.log)" in capsys.readouterr().out
    assert (EXPDIR / "naive_seed2" / "valid.acc.ave.pth").is_file()
    monkeypatch.delenv("FAIL")
    assert run_all(Recipe(EXPDIR), ablation, ablation.runs(EXPDIR)) == []


def test_the_peak_memory_is_the_maximum_over_resumed_calls(ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    run = first_run(ablation)
    cost.record_peak_memory(run.exp_dir, 10**12, 1)
    monkeypatch.setenv("FAIL", "ours_seed1:7")
    with pytest.raises(RunFailed):
        Recipe(EXPDIR, jobs=2).run(run, ablation.decode)
    record = read_run(run.exp_dir)
    assert (record["peak_memory_bytes"], record["jobs"], record["audio_seconds"]) == (10**12, 2, 360.0)
    assert "decode_configs" not in record


def test_two_processes_cannot_work_on_the_same_run(ablation: Ablation) -> None:
    run = first_run(ablation)
    run.exp_dir.mkdir(parents=True)
    with (run.exp_dir / "ablation.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(RunFailed, match="another process is working in exp/ablation/ours_seed1"):
            Recipe(EXPDIR).run(run, ablation.decode)
    assert calls() == []


def test_data_are_prepared_once_for_each_test_set(ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(EXPDIR)
    call = "OMP=2 --stage 1 --stop_stage 5 --expdir exp --test_sets test_asr test_ser"
    monkeypatch.setenv("FAIL", "none:1")
    with pytest.raises(
        RunFailed, match="stage 1 --stop_stage 5 failed with exit status 3; see exp/ablation/prepare.log"
    ):
        recipe.prepare(ablation.test_sets)
    monkeypatch.delenv("FAIL")
    recipe.prepare(ablation.test_sets)
    recipe.prepare(ablation.test_sets)
    assert calls() == [call, call]
    recipe.prepare(["dev_asr"])
    assert "OMP=2 --stage 1 --stop_stage 5 --expdir exp --test_sets dev_asr" in calls()
    assert read_run(EXPDIR) == {"prepared_test_sets": ["dev_asr", "test_asr", "test_ser"]}
    recipe.prepare(ablation.test_sets)
    recipe.prepare(["dev_asr"])
    assert calls() == []
    Path("dump/raw/dev_asr/text").unlink()
    recipe.prepare(["dev_asr"])
    assert len(calls()) == 1


def test_data_prepared_by_version_0_1_are_not_prepared_again(ablation: Ablation) -> None:
    """Its ablation folder has an empty file instead of the names of the test sets."""
    EXPDIR.mkdir(parents=True)
    (EXPDIR / "prepared").touch()
    Recipe(EXPDIR).prepare(ablation.test_sets)
    assert len(calls()) == 1  # no data yet
    (EXPDIR / "run.json").unlink()
    Recipe(EXPDIR).prepare(ablation.test_sets)
    assert calls() == []


def test_runs_finished_by_version_0_1_are_not_repeated(ablation: Ablation) -> None:
    """Its configurations are in made_with.json."""
    run, recipe = first_run(ablation), Recipe(EXPDIR)
    recipe.run(run, ablation.decode)
    record = read_run(run.exp_dir)
    (run.exp_dir / "run.json").unlink()
    train = {key: record[key] for key in ("config", "train_args")}
    (run.exp_dir / "made_with.json").write_text(json.dumps({"train": train, **record["decode_configs"]}))
    recipe.check_unchanged(run)
    assert is_finished(run, ablation.decode)
    with pytest.raises(ValueError, match="train_args was --seed 1, is now --seed 1 --max_epoch 3 "):
        Recipe(EXPDIR, "--max_epoch 3").check_unchanged(run)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stopping_ends_all_processes(ablation: Ablation) -> None:
    """The command receives SIGTERM while a training sleeps."""
    Path("run.sh").write_text("#!/usr/bin/env bash\necho $$ >>pids\nsleep 60\n")
    command = [sys.executable, "-m", "harmonifuse_espnet.bin.compare"]
    root = str(Path(__file__).parents[2])
    Path("exp/stats_raw/valid").mkdir(parents=True)
    Path("exp/stats_raw/valid/text_shape").touch()
    for name in ablation.test_sets:
        Path(f"dump/raw/{name}").mkdir(parents=True)
        Path(f"dump/raw/{name}/text").touch()
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    while not Path("pids").exists() or not Path("pids").read_text().endswith("\n"):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 128 + 15
    (pid,) = Path("pids").read_text().split()
    deadline = time.monotonic() + 30
    while is_running(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stopping_also_ends_a_process_that_is_just_starting(
    ablation: Ablation, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.sh").write_text("#!/usr/bin/env bash\nexec sleep 31\n")
    recipe, popen = Recipe(EXPDIR), subprocess.Popen
    stop = threading.Thread(target=recipe.stop)

    def start_and_stop(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*args, **options)
        stop.start()
        stop.join(0.2)
        return process

    monkeypatch.setattr(subprocess, "Popen", start_and_stop)
    began = time.monotonic()
    with pytest.raises(RunFailed, match="failed with exit status -15"):
        recipe.prepare(ablation.test_sets)
    assert time.monotonic() - began < 30
