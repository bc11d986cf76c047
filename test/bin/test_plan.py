"""The training plan: estimates from shapes, measured time, and an error if training does not fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LORA, Recipe, save_llm

from harmonifuse_espnet.bin.plan import get_parser, main
from harmonifuse_espnet.train.task import HarmoniFuseTask


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipe")
    return Recipe(folder, tokenizer=save_llm(folder / "llm"))


def command(recipe: Recipe, config: dict[str, Any] | None = None, **options: Any) -> list[str]:
    decoder = {"model": recipe.tokenizer, "lora": LORA}
    return recipe.train_command("exp", {"decoder_conf": decoder, **(config or {})}, **options)


def plan(recipe: Recipe, capsys: pytest.CaptureFixture[str], *args: Any, **options: Any) -> str:
    capsys.readouterr()
    main(command(recipe, *args, **options))
    return capsys.readouterr().out


def cells(text: str, first: str) -> list[str]:
    """Return the cells of the first row that starts with ``first``, without that column."""
    return next(line[len(first) :].split() for line in text.splitlines() if line.startswith(f"{first} "))


def test_the_parameters_are_those_of_the_model_that_training_builds(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    text = plan(recipe, capsys)
    args = HarmoniFuseTask.get_parser().parse_args(command(recipe))
    model = HarmoniFuseTask.build_model(args)
    total = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert cells(text, "total") == [f"{total:,}", f"{trained:,}"]
    lora = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" in name)
    assert cells(text, "decoder LoRA") == [f"{lora:,}"] * 2 and cells(text, "decoder ")[-1] == "0"
    assert max(map(len, text.splitlines())) <= 100


def test_only_measured_steps_need_weights(recipe: Recipe, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = Path(save_llm(tmp_path / "llm"))
    (folder / "model.safetensors").unlink()
    config = {"decoder_conf": {"model": str(folder), "lora": LORA}}
    assert plan(recipe, capsys, config) == plan(recipe, capsys)
    with pytest.raises(SystemExit):
        main(command(recipe, config, steps_measured=1))
    message = capsys.readouterr().err
    assert f"error: decoder_conf: the folder {folder} cannot be loaded (" in message
    assert "no file named model.safetensors" in message and len(message.splitlines()) == 1


def test_steps_by_task_are_those_of_the_iterator(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(recipe, capsys, task_pattern="{asr: 2, ser: 1}", num_iters_per_epoch=12, max_epoch=7)
    assert cells(text, "asr") == ["6", "2", "8", "4.00"] and cells(text, "ser") == ["6", "2", "4", "2.00"]
    assert "max_epoch 7; an epoch has 12 steps and 12 optimizer updates" in text
    text = plan(recipe, capsys, task_pattern="{asr: 2, ser: 1}", num_iters_per_epoch=12, accum_grad=3)
    assert "an epoch has 12 steps and 4 optimizer updates" in text


def test_training_that_does_not_fit_into_memory_is_refused(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\ntotal " in plan(recipe, capsys, ngpu=1, device_memory="80GB", use_amp="true")
    with pytest.raises(SystemExit) as error:
        main(command(recipe, ngpu=1, device_memory="500MB"))
    shown = capsys.readouterr()
    assert error.value.code == 1 and "CUDA context and fragmentation" in shown.out
    assert "error: training needs about 8" in shown.err
    assert "MB of memory, but only 500 MB are available; the largest part is 'CUDA" in shown.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_device_memory_is_requested(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No GPU on this machine: set --device_memory, such as 80GB" in plan(recipe, capsys, ngpu=2)


def test_training_time_is_estimated_from_measured_steps(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(recipe, capsys, steps_measured=2, max_epoch=3)
    assert "Time measured on this machine with 2 steps of each task" in text
    assert "all 3 epochs, validation included: about" in text
    assert [line.split(" ")[0] for line in text.splitlines()].count("asr") == 2  # in the tables of steps and of times
    assert "does not include loading" not in text
    text = plan(recipe, capsys, steps_measured=2, num_workers=1)
    assert (
        "The time does not include loading: 1 workers load 2 batches ahead; use a --steps_measured of several times"
        in text
    )


def test_recombined_speech_is_longer_and_its_word_boundaries_need_not_exist(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    config: dict[str, Any] = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}}
    longest = cells(plan(recipe, capsys, config), "Memory of")
    recombined = plan(recipe, capsys, {**config, "preprocessor_conf": {"recombine": {"asr": 0.5}}})
    assert longest[8:10] == ["8,000", "samples"] and cells(recombined, "Memory of")[8:10] == ["12,000", "samples"]
    with pytest.raises(SystemExit):
        main(command(recipe, {**config, "preprocessor_conf": {"recombine": {"asr": 0.5}}}, steps_measured=1))
    assert "ctm: no word boundaries" in capsys.readouterr().err


def test_the_memory_estimate_is_for_the_slowest_speed_perturbation(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    config: dict[str, Any] = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}}
    longest = cells(plan(recipe, capsys, config), "Memory of")
    slow = plan(recipe, capsys, {**config, "preprocessor_conf": {"speed_perturb": {"ser": [0.5, 1.0]}}})
    assert longest[8:10] == ["8,000", "samples"] and cells(slow, "Memory of")[8:10] == ["16,800", "samples"]


def test_a_mixed_batch_can_have_the_longest_utterances_of_every_task(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipe.folder / "mixed.yaml").write_text("base: exp.yaml\ntask_order: mixed\n")
    options = [*command(recipe, task_pattern="{asr: 2, ser: 1}"), "--config", str(recipe.folder / "mixed.yaml")]
    main(options)
    text = capsys.readouterr().out
    assert cells(text, "Memory of")[5:10] == ["batch:", "3", "utterances,", "8,400", "samples"]


def test_a_task_of_weight_0_is_not_in_the_plan(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(recipe, capsys, task_pattern="{asr: 0, ser: 1}", num_iters_per_epoch=12)
    assert cells(text, "ser") == ["6", "2", "12", "6.00"]
    assert not [line for line in text.splitlines() if line.startswith("asr ")]


def test_plan_has_the_options_of_training_and_two_more(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    training = {action.dest for action in HarmoniFuseTask.get_parser()._actions}
    assert {action.dest for action in get_parser()._actions} - training == {"device_memory", "steps_measured"}
    with pytest.raises(SystemExit):
        main(["--tokenizer", recipe.tokenizer])
    assert "tasks" in capsys.readouterr().err
