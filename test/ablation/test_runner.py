"""Runs: what is done is not done again, what was changed is refused, what failed is told and stops nothing else."""

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
from harmonifuse_espnet.ablation.runner import Recipe, RunFailed, is_trained, run_all
from harmonifuse_espnet.ablation.spec import Ablation, Run, read_ablation

EXPDIR = Path("exp/ablation")
MODEL = EXPDIR / "ours_seed1" / "valid.acc.ave.pth"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe's folder, at a path with a blank; epochs of 180 seconds of audio."""
    monkeypatch.chdir(make_recipe(tmp_path / "a recipe"))
    monkeypatch.setattr(cost, "trained_audio", lambda exp_dir: 360.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return Path()


@pytest.fixture
def ablation() -> Ablation:
    return read_ablation(Path("conf/ablation.yaml"))


def calls() -> list[str]:
    """The calls of run.sh since the last time."""
    path = Path("calls")
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return lines


def first_run(ablation: Ablation) -> Run:
    return ablation.runs(EXPDIR)[0]


def test_a_run_is_trained_then_decoded_and_scored_once_for_each_configuration(ablation: Ablation) -> None:
    recipe = Recipe(EXPDIR, "--max_epoch 2", ["--ngpu", "1"])
    recipe.carry_out(first_run(ablation), ablation.decode)
    folder = "--expdir exp --tag ablation/ours_seed1 --train_config conf/train.yaml"
    assert calls() == [
        f"OMP=2 --stage 6 --stop_stage 6 {folder} --train_args --seed 1 --max_epoch 2 --ngpu 1",
        f"OMP=2 --stage 7 --stop_stage 8 {folder} --inference_config conf/decode.yaml "
        "--inference_model valid.acc.ave.pth --inference_tag valid.acc.ave --test_sets test_asr test_ser "
        "--results exp/ablation/ours_seed1/RESULTS.md --ngpu 1",
    ]
    assert "stage 6 of ablation/ours_seed1\nstage 7 of" in (EXPDIR / "ours_seed1" / "ablation.log").read_text()
    known = json.loads((EXPDIR / "ours_seed1" / "cost.json").read_text())
    assert known["jobs"] == 1 and known["audio_seconds"] == 360.0
    assert 1e6 < known["memory"] < 1e8  # of a shell, not of this large process
    assert not (EXPDIR / "ours_seed1" / "peak_memory").exists()


def test_several_jobs_have_one_thread_each(ablation: Ablation) -> None:
    Recipe(EXPDIR, jobs=2).carry_out(first_run(ablation), ablation.decode)
    assert all(call.startswith("OMP=1 ") and " --nproc 1" in call for call in calls())


def test_what_is_done_is_not_done_again(ablation: Ablation, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ablation.runs(EXPDIR)
    assert run_all(Recipe(EXPDIR, jobs=2), ablation, runs) == []
    assert len(calls()) == 2 * len(runs)
    assert run_all(Recipe(EXPDIR), ablation, runs) == []
    assert calls() == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 runs, 0 of them done before" and lines[-1] == "6 runs, 6 of them done before"
    assert "ours seed 1: done after 0.0 minutes; " in "\n".join(lines) and lines[-2].endswith("; none left")


def test_a_training_goes_on_until_max_epoch_and_the_model_are_there(ablation: Ablation) -> None:
    run, recipe = first_run(ablation), Recipe(EXPDIR)
    recipe.carry_out(run, ablation.decode)
    write_checkpoint(run.exp_dir / "checkpoint.pth", epochs=1)
    assert not is_trained(run)
    recipe.carry_out(run, ablation.decode)
    assert is_trained(run)
    MODEL.unlink()
    assert not is_trained(run)


def test_answers_older_than_the_model_or_by_another_configuration_are_made_again(ablation: Ablation) -> None:
    run, recipe = first_run(ablation), Recipe(EXPDIR)
    recipe.carry_out(run, ablation.decode)
    later = time.time() + 60
    os.utime(MODEL, (later, later))
    assert not recipe.is_done(run, ablation.decode)
    os.utime(MODEL, (0, 0))
    assert recipe.is_done(run, ablation.decode)
    write_config(Path(), "decode", {"beam_size": 4})
    calls()
    recipe.carry_out(run, ablation.decode)
    assert [call.split()[2] for call in calls()] == ["7"]
    assert recipe.is_done(run, ablation.decode)


def test_another_training_configuration_is_refused_with_what_changed(ablation: Ablation) -> None:
    run = ablation.runs(EXPDIR)[2]
    Recipe(EXPDIR).check_unchanged(run)
    Recipe(EXPDIR).carry_out(run, ablation.decode)
    Recipe(EXPDIR).check_unchanged(run)
    with pytest.raises(ValueError, match="naive_seed1 was .* train_args was --seed 1, is now --seed 1 --max_epoch 3 "):
        Recipe(EXPDIR, "--max_epoch 3").check_unchanged(run)
    write_config(Path(), "train", {"optim_conf": {"lr": 0.2}, "max_epoch": 2})  # the base of its configuration
    with pytest.raises(ValueError, match=r"optim_conf.lr was 0.1, is now 0.2 \(conf/naive.yaml\); remove that folder"):
        Recipe(EXPDIR).check_unchanged(run)


def test_a_folder_that_someone_else_trained_is_refused(ablation: Ablation) -> None:
    run = first_run(ablation)
    run.exp_dir.mkdir(parents=True)
    write_checkpoint(run.exp_dir / "checkpoint.pth")
    with pytest.raises(ValueError, match="ours_seed1 was not trained by an ablation; remove it"):
        Recipe(EXPDIR).check_unchanged(run)


def test_a_run_that_fails_names_its_log_and_the_others_go_on(
    ablation: Ablation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIL", "naive_seed1:6")
    failed = run_all(Recipe(EXPDIR), ablation, ablation.runs(EXPDIR))
    assert [run.name for run in failed] == ["naive seed 1"]
    message = "naive seed 1: FAILED (./run.sh --stage 6 --stop_stage 6 ended with status 3; see "
    assert f"{message}exp/ablation/naive_seed1/ablation.log)" in capsys.readouterr().out
    assert (EXPDIR / "naive_seed2" / "valid.acc.ave.pth").is_file()
    monkeypatch.delenv("FAIL")
    assert run_all(Recipe(EXPDIR), ablation, ablation.runs(EXPDIR)) == []


def test_the_largest_peak_of_all_attempts_counts(ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    run = first_run(ablation)
    cost.remember(run.exp_dir, 10**12, 1)
    monkeypatch.setenv("FAIL", "ours_seed1:7")
    with pytest.raises(RunFailed):
        Recipe(EXPDIR, jobs=2).carry_out(run, ablation.decode)
    assert json.loads((run.exp_dir / "cost.json").read_text()) == {
        "memory": 10**12,
        "jobs": 2,
        "audio_seconds": 360.0,
    }


def test_a_run_is_carried_out_by_one_process_at_a_time(ablation: Ablation) -> None:
    run = first_run(ablation)
    run.exp_dir.mkdir(parents=True)
    with (run.exp_dir / "ablation.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(RunFailed, match="another process is at work in exp/ablation/ours_seed1"):
            Recipe(EXPDIR).carry_out(run, ablation.decode)
    assert calls() == []


def test_data_are_prepared_once_to_the_end(ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(EXPDIR)
    call = "OMP=2 --stage 1 --stop_stage 5 --expdir exp --test_sets test_asr test_ser"
    monkeypatch.setenv("FAIL", "none:1")
    with pytest.raises(RunFailed, match="stage 1 --stop_stage 5 ended with status 3; see exp/ablation/prepare.log"):
        recipe.prepare(ablation.test_sets)
    monkeypatch.delenv("FAIL")
    recipe.prepare(ablation.test_sets)
    recipe.prepare(ablation.test_sets)
    assert calls() == [call, call]
    recipe.prepare(["dev_asr"])
    assert "OMP=2 --stage 1 --stop_stage 5 --expdir exp --test_sets dev_asr" in calls()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stopping_ends_what_was_started_and_starts_nothing(ablation: Ablation) -> None:
    """The command is told to end while a training sleeps."""
    Path("run.sh").write_text("#!/usr/bin/env bash\necho $$ >>pids\nsleep 60\n")
    command = [sys.executable, "-m", "harmonifuse_espnet.bin.compare"]
    root = str(Path(__file__).parents[1])
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


def test_a_run_that_starts_while_all_are_stopped_is_ended_too(
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
    with pytest.raises(RunFailed, match="ended with status -15"):
        recipe.prepare(ablation.test_sets)
    assert time.monotonic() - began < 30
