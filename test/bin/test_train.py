"""Stage 6: resumed training, several processes, size of checkpoints, and error messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import LORA, QWEN2, TABLE, Recipe, save_encoder, save_llm

from harmonifuse_espnet.bin.train import main
from harmonifuse_espnet.data.batch import SpeechBatch
from harmonifuse_espnet.inference.speech2text import Speech2Text
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.task import HarmoniFuseTask

# All random draws: dropout, prompts, speed perturbation, and the shuffled batches of each epoch.
RANDOM = {
    "preprocessor_conf": {"speed_perturb": {"asr": [0.9, 1.0, 1.1]}},
    "model_conf": {"embed_dropout": 0.1, "word_dropout": 0.1},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


def checkpoint(experiment: Path) -> dict[str, Any]:
    return torch.load(experiment / "checkpoint.pth", weights_only=False)


def check_same(one: Path, other: Path) -> None:
    """Check that parameters and optimizer moments are identical."""
    states = [checkpoint(experiment) for experiment in (one, other)]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    moments = [state["optimizers"][0]["state"] for state in states]
    for index, moment in moments[0].items():
        assert all(torch.equal(value, moments[1][index][key]) for key, value in moment.items())


@pytest.mark.parametrize("workers", [0, 1])
def test_training_resumed_after_an_epoch_gives_the_same_model(recipe: Recipe, workers: int) -> None:
    config = {**RANDOM, "num_workers": workers}
    uninterrupted = recipe.train(f"uninterrupted{workers}", config, max_epoch=2)
    resumed = recipe.train(f"resumed{workers}", config, max_epoch=1)
    after_one = checkpoint(resumed)["model"]
    recipe.train(f"resumed{workers}", config, max_epoch=2, resume="true")
    check_same(uninterrupted, resumed)
    assert not all(torch.equal(value, after_one[name]) for name, value in checkpoint(resumed)["model"].items())


def test_training_resumed_after_an_interrupted_epoch_gives_the_same_model(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = recipe.train("uninterrupted", RANDOM, max_epoch=3, resume="true")
    forward, steps = HarmoniFuseModel.forward, []

    def interrupted_forward(self: HarmoniFuseModel, batch: SpeechBatch, **unused: Any) -> Any:
        steps.append(self.training)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(HarmoniFuseModel, "forward", interrupted_forward)
        with pytest.raises(KeyboardInterrupt):
            recipe.train("interrupted", RANDOM, max_epoch=3, resume="true")
    assert steps == [True] * 4 + [False] * 2 + [True] * 3  # in the third step of the second epoch
    check_same(uninterrupted, recipe.train("interrupted", RANDOM, max_epoch=3, resume="true"))


def test_the_config_of_an_experiment_includes_the_table_of_tasks(recipe: Recipe) -> None:
    config = yaml.safe_load((recipe.train("table") / "config.yaml").read_text())
    assert config["tasks"] == TABLE and list(config["tasks"]) == list(TABLE)
    assert config["tokenizer"] == recipe.tokenizer


def test_the_training_loss_falls(recipe: Recipe) -> None:
    """Four batches, twenty epochs."""
    config = {"optim_conf": {"lr": 1.0e-2}, "task_pattern": {"asr": 2, "ser": 1}}
    stats = checkpoint(recipe.train("overfit", config, max_epoch=20))["reporter"]["stats"]
    for name in ("loss_asr", "loss_ser", "loss_ctc_asr"):
        first, last = (stats[epoch]["train"][name] for epoch in (1, 20))
        assert float(last) < 0.75 * float(first)


def test_checkpoints_of_a_frozen_language_model_are_small_and_can_be_decoded(recipe: Recipe, tmp_path: Path) -> None:
    llm = save_llm(tmp_path / "llm", {**QWEN2, "intermediate_size": 4096})
    wavlm = save_encoder(tmp_path / "wavlm")
    llm_recipe = Recipe(tmp_path, tokenizer=llm)
    config = {"frontend_conf": {"model": wavlm}, "decoder_conf": {"model": llm, "lora": LORA}}
    experiment = llm_recipe.train("lora", config, frontend="huggingface", max_epoch=1)
    llm_recipe.train("lora", config, frontend="huggingface", max_epoch=2, resume="true")
    frozen = os.path.getsize(f"{llm}/model.safetensors")
    for name in ("2epoch.pth", "valid.loss.ave.pth", "checkpoint.pth"):
        assert os.path.getsize(experiment / name) < 0.3 * frozen, name
    weights = torch.load(experiment / "2epoch.pth")
    assert not [name for name in weights if name.startswith(("frontend.", "decoder.")) and "lora_" not in name]
    assert any(value.any() for name, value in weights.items() if "lora_B" in name)  # B is initialised with zeros
    out = llm_recipe.decode(experiment, tmp_path / "decode")
    assert len((out / "text").read_text().splitlines()) == 6
    state = torch.load(experiment / "valid.loss.ave.pth")
    model = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth").model
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("order", ["interleaved", "mixed"])
def test_distributed_training_with_two_processes(recipe: Recipe, order: str) -> None:
    options = {"multiprocessing_distributed": "false", "dist_backend": "gloo", "num_workers": 1}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (recipe.folder / f"{order}.yaml").write_text(f"base: {order}_ddp.yaml\ntask_order: {order}\n")
    training = recipe.train_command(f"{order}_ddp", {"batch_size": 4}, **options)
    training[training.index("--config") + 1] = str(recipe.folder / f"{order}.yaml")
    command += ["-m", "harmonifuse_espnet.bin.train", *training]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ":0/2]" in done.stderr  # ESPnet's log line of rank 0 of 2
    experiment = recipe.folder / f"{order}_ddp"
    assert yaml.safe_load((experiment / "config.yaml").read_text())["task_order"] == order
    stats = checkpoint(experiment)["reporter"]["stats"][1]
    assert {"loss_asr", "loss_ser"} <= set(stats["train"]) & set(stats["valid"])
    model = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    assert model.model is not None


def test_user_errors_are_reported_in_one_line(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(config: dict[str, Any] | None = None, **options: Any) -> str:
        with pytest.raises(SystemExit, match="1"):
            main(recipe.train_command("bad", config, **options))
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]

    assert "nothing.model: no such tokenizer" in message(tokenizer=tmp_path / "nothing.model")
    assert "unknown task_pattern 'alternate'; give round_robin" in message(task_pattern="alternate")
    assert "bad.yaml: task_order: 'random' is unknown; expected one of: interleaved, sequential, mixed" in message(
        {"task_order": "random"}
    )
    assert "bad.yaml: unknown options: max_epochs" in message({"max_epochs": 3})
    assert "absent.yaml: no such file; it is the base of" in message({"base": str(tmp_path / "absent.yaml")})
    assert "task_batches has ['age']" in message(task_batches="{age: {batch_size: 2}}")
    assert "speed_perturb has unknown tasks ['age']" in message({"preprocessor_conf": {"speed_perturb": {"age": [1]}}})
    assert "decoder_conf needs either 'model' or 'config'" in message({"decoder_conf": {"lora": LORA}})
    assert "preprocessor_conf: HarmoniFusePreprocessor has no argument ['gains']" in message(
        {"preprocessor_conf": {"gains": {"ser": 6.0}}}
    )
    criterion = {"best_model_criterion": [["valid", "wer", "min"]]}
    assert "best_model_criterion names 'wer', which no step reports" in message(criterion)
    assert "max_cache_size is 1000000000 bytes, but must be 0: ESPnet's cache" in message({"max_cache_size": "1GB"})
    assert "absent.npz: no such statistics file; stage 5" in message(feats_stats=tmp_path / "absent.npz")


def test_an_unknown_label_is_reported_with_its_utterance(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (recipe.folder / "train/text").read_text()
    (tmp_path / "text").write_text(text.replace("train_ser_1 neu", "train_ser_1 fear"))
    command = recipe.train_command("bad")
    command = [word.replace(f"{recipe.folder}/train/text,", f"{tmp_path}/text,") for word in command]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert "error: train_ser_1: unknown label 'fear' for task 'ser'" in capsys.readouterr().err


def test_an_error_from_inside_pytorch_keeps_its_traceback(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: HarmoniFuseModel, batch: SpeechBatch, **unused: Any) -> Any:
        raise ValueError("from inside PyTorch")

    monkeypatch.setattr(HarmoniFuseModel, "forward", forward)
    with pytest.raises(ValueError, match="from inside PyTorch"):
        recipe.train("broken")


def test_several_gpus_in_one_process_are_refused(recipe: Recipe) -> None:
    args = HarmoniFuseTask.get_parser().parse_args([*recipe.train_command("gpus"), "--ngpu", "2"])
    with pytest.raises(ValueError, match="--ngpu 2 in one process is not supported; add --multiprocessing_distributed"):
        HarmoniFuseTask.main_worker(args)
