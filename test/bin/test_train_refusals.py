"""Stage 6 on real data: paths of any kind, and what would train wrongly or fail late is refused in one line."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from espnet2.tasks.abs_task import AbsTask
from tiny import LOGMEL, Recipe, save_encoder
from torch.multiprocessing.spawn import ProcessExitedException
from torch.optim.lr_scheduler import OneCycleLR

from harmonifuse_espnet.bin.train import main
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.speech_table import SpeechTable
from harmonifuse_espnet.train.task import HarmoniFuseTask
from harmonifuse_espnet.train.trainer import check_resumable

CUT = "truncated or not a checkpoint"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture
def recipe(original: Recipe) -> Any:
    """The recipe; its tables, shape files and audio are restored after the test."""
    backup = original.folder.with_name("backup")
    shutil.copytree(original.folder, backup)
    for path in original.folder.rglob("made_from.json"):  # which notices changed tables before the checks tested here
        path.unlink()
    yield original
    shutil.rmtree(original.folder)
    backup.rename(original.folder)


@pytest.fixture
def refused(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that trains, and returns the single line of the error."""

    def train(experiment: str, config: dict[str, Any] | None = None, **options: Any) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="1"):
            main(recipe.train_command(experiment, config, **options))
        text = capsys.readouterr().err
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in text
        return lines[0].removeprefix("error: ")

    return train


def test_paths_may_have_commas_blanks_and_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "a, b #1 (c), d"
    folder.mkdir()
    recipe, encoder = Recipe(folder), save_encoder(folder / "wav lm, large")
    first = recipe.train("first", {"frontend_conf": {}}, frontend="huggingface", frontend_conf=f"model={encoder}")
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["frontend_conf"] == {"model": encoder}
    assert config["train_data_path_and_name_and_type"][0] == [f"{folder}/train/wav.scp", "speech", "sound"]
    second = recipe.train("second", {"frontend_conf": LOGMEL}, init_param=f"{first}/1epoch.pth:decoder:decoder")
    assert (second / "valid.loss.ave.pth").is_file()
    assert (recipe.decode(second, folder / "out") / "text").is_file()


def test_numbers_in_options_are_numbers(original: Recipe) -> None:
    options = {"optim_conf": "lr=1e-2", "optim_groups": "[{match: gate, lr: 1e-4}]", "max_epoch": "1e0"}
    experiment = original.train("numbers", {"optim_conf": {}}, **options)
    groups = torch.load(experiment / "checkpoint.pth", weights_only=False)["optimizers"][0]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.01, 0.0001]


@pytest.mark.parametrize("workers", [0, 1])
def test_audio_that_cannot_be_read_is_named_with_its_utterance(recipe: Recipe, refused: Any, workers: int) -> None:
    audio = recipe.folder / "train/train_ser_1.flac"
    audio.unlink()
    assert refused("deleted", num_workers=workers) == (
        f"{recipe.folder}/train/wav.scp: utterance 'train_ser_1': {audio}: no such audio file; correct the path in "
        "wav.scp or restore the file"
    )
    audio.write_bytes((recipe.folder / "train/train_ser_0.flac").read_bytes()[:300])
    assert refused("damaged", num_workers=workers).startswith(
        f"{recipe.folder}/train/wav.scp: utterance 'train_ser_1': {audio}: "
    )


def test_a_killed_worker_ends_the_training(recipe: Recipe, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: SpeechTable, utterance: str) -> np.ndarray:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("read in the process that trains")

    parent = os.getpid()
    monkeypatch.setattr(SpeechTable, "__getitem__", read)
    message = refused("killed", num_workers=1)
    assert message.startswith("a process that loads data (pid ") and "was ended, probably because the mem" in message


def test_a_validation_set_without_a_trained_task_is_refused(recipe: Recipe, refused: Any) -> None:
    for path in (*(recipe.folder / "valid").iterdir(), *(recipe.folder / "stats/valid").glob("*_shape")):
        if path.suffix != ".flac":
            kept = [line for line in path.read_text().splitlines(keepends=True) if "_ser_" not in line]
            path.write_text("".join(kept))
    assert refused("unvalidated") == (
        f"{recipe.folder}/valid/utt2task: no utterance of task 'ser', which {recipe.folder}/train/utt2task has: the "
        "best model would be chosen without it; add a validation set with this task (in run.sh: --valid_sets), or set "
        "its weight in task_pattern to 0"
    )
    own = {"task_batches": {"ser": {"batch_size": 2}}}
    assert "no utterance of task 'ser'" in refused("unvalidated", own, task_pattern="{asr: 1, ser: 1}")
    recipe.train("one_task", own, task_pattern="{asr: 1, ser: 0}")


def test_utterances_added_after_stage_5_are_refused(recipe: Recipe, refused: Any) -> None:
    for name in ("wav.scp", "text", "utt2task"):
        path = recipe.folder / "train" / name
        (line,) = (line for line in path.read_text().splitlines() if line.startswith("train_ser_1 "))
        path.write_text(path.read_text() + line.replace("train_ser_1 ", "train_ser_9 ") + "\n")
    train, shape = recipe.folder / "train", recipe.folder / "stats/train/speech_shape"
    assert refused("added") == (
        f"{train}/wav.scp has 13 utterances, but {shape} has 12: 'train_ser_9' is missing from {shape}; run stage "
        "5 again"
    )
    shape.write_text(shape.read_text() + "train_ser_1 3\n")
    assert refused("twice").startswith(f"{shape}:13: duplicate key 'train_ser_1'")


def test_utterances_removed_after_stage_5_are_refused(recipe: Recipe, refused: Any) -> None:
    text, shape = recipe.folder / "valid/text", recipe.folder / "stats/valid/speech_shape"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[1:]))
    assert refused("removed") == (
        f"{text} has 3 utterances, but {shape} has 4: 'valid_asr_0' is missing from {text}; run stage 5 again"
    )


def test_more_updates_than_the_steps_of_onecyclelr_are_refused(recipe: Recipe, refused: Any) -> None:
    schedule = {"scheduler": "onecyclelr", "scheduler_conf": {"max_lr": 1.0e-3, "total_steps": 7}, "accum_grad": 2}
    assert refused("longer", {**schedule, "max_epoch": 4}) == (
        "scheduler_conf: onecyclelr has 7 total_steps, but the training has 8 optimizer updates (max_epoch 4 x 4 steps "
        "/ accum_grad 2); set total_steps: 8, or set max_epoch: 3"
    )
    assert not list((recipe.folder / "longer").glob("*.pth"))
    recipe.train("shorter", {**schedule, "max_epoch": 3})


def test_the_schedule_of_a_checkpoint_must_be_long_enough(recipe: Recipe) -> None:
    schedule = {"scheduler": "onecyclelr", "scheduler_conf": {"max_lr": 1.0e-3, "total_steps": 7}, "accum_grad": 2}
    checkpoint = recipe.train("resumed", {**schedule, "max_epoch": 3}) / "checkpoint.pth"
    optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters())
    longer = [OneCycleLR(optimizer, max_lr=0.1, total_steps=8)]  # loading the checkpoint sets 7 again
    options: Any = argparse.Namespace(
        max_epoch=3, accum_grad=2, keep_nbest_models=1, best_model_criterion=[("valid", "loss", "min")]
    )
    check_resumable(checkpoint, longer, options, 4)
    options.max_epoch = 4
    with pytest.raises(InputError) as error:
        check_resumable(checkpoint, longer, options, 4)
    assert str(error.value) == (
        f"{checkpoint}: onecyclelr has 7 total_steps, but the training has 8 optimizer updates (max_epoch 4 x 4 steps "
        "/ accum_grad 2); train in another folder (in run.sh: --tag) with total_steps: 8, or set max_epoch: 3"
    )


def test_wrong_arguments_of_optimizer_and_scheduler_are_refused(recipe: Recipe, refused: Any) -> None:
    assert refused("string", {"optim_conf": {"lr": "fast"}}) == (
        "optim_conf: lr is the string 'fast', but must be a number, without quotes"
    )
    assert refused("unknown", {"optim_conf": {"rate": 1}}).startswith("optim_conf: AdamW has no argument ['rate']; ")
    assert refused("missing", {"scheduler": "onecyclelr", "scheduler_conf": {}}) == (
        "scheduler_conf: OneCycleLR needs max_lr; add max_lr to scheduler_conf"
    )


def test_a_truncated_checkpoint_is_named_with_the_weights_to_start_from(recipe: Recipe, refused: Any) -> None:
    experiment = recipe.train("cut", {"keep_nbest_models": 2}, max_epoch=2)
    checkpoint = experiment / "checkpoint.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:20000])
    assert refused("cut", resume="true") == (
        f"{checkpoint}: {CUT} (20,000 bytes), so training cannot be resumed; restore it from a backup, or train again: "
        "with --fresh true, or in another folder (in run.sh: --tag) from the weights of epoch 2: "
        f"--init_param {experiment}/2epoch.pth"
    )
    recipe.train("again", init_param=experiment / "2epoch.pth")


def test_weights_that_averaging_needs_are_checked_when_training_is_resumed(recipe: Recipe, refused: Any) -> None:
    config = {"keep_nbest_models": 3}
    experiment = recipe.train("torn", config, max_epoch=2)
    state = torch.load(experiment / "2epoch.pth")
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:20000]), lambda path: path.unlink()):
        damage(experiment / "2epoch.pth")  # a killed training had already written checkpoint.pth
        recipe.train("torn", config, max_epoch=2, resume="true")
        restored = torch.load(experiment / "2epoch.pth")
        assert all(torch.equal(value, restored[name]) for name, value in state.items())
    first = experiment / "1epoch.pth"
    first.write_bytes(first.read_bytes()[:20000])
    assert refused("torn", config, max_epoch=3, resume="true") == (
        f"{first}: {CUT} (20,000 bytes), but the best epochs are averaged at the end of training; restore it from a "
        "backup, or train again with --fresh true"
    )
    first.unlink()
    assert refused("torn", config, max_epoch=3, resume="true") == (
        f"{first}: no such file, but this epoch is among the best so far, which are averaged at the end of training; "
        "restore it from a backup, or set a smaller keep_nbest_models"
    )


def test_an_error_in_one_of_several_training_processes_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> None:
        raise InputError("a.flac: the audio is empty")

    def run_children(args: argparse.Namespace, cmd: None = None) -> None:
        child = multiprocessing.get_context("fork").Process(target=HarmoniFuseTask.main_worker, args=(args,))
        child.start()
        child.join()
        raise ProcessExitedException(f"process 0 terminated with exit code {child.exitcode}", 0, 1, child.exitcode or 0)

    unset = dict.fromkeys(("print_config", "dry_run", "collect_stats", "dist_rank", "dist_launcher"))
    args = argparse.Namespace(ngpu=1, multiprocessing_distributed=True, init_param=[], output_dir=".", **unset)
    monkeypatch.setattr(HarmoniFuseTask, "check_required_command_args", lambda args: None)
    folder = "harmonifuse_espnet.train.task.experiment_folder"
    monkeypatch.setattr(folder, lambda *args, **others: nullcontext(True), raising=False)
    monkeypatch.setattr(AbsTask, "main_worker", fail)
    monkeypatch.setattr(AbsTask, "main", run_children)
    with pytest.raises(InputError) as error:
        HarmoniFuseTask.main(args)
    assert str(error.value) == (
        "a training process failed (process 0 terminated with exit code 1); its error is reported above"
    )
    assert capfd.readouterr().err == "error: a.flac: the audio is empty\n"
