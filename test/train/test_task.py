"""The task class: options and the network, batches by task, new tasks, freezing and parameter groups."""

from __future__ import annotations

import argparse
import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from espnet2.train.distributed_utils import DistributedOption
from tiny import GENDER, LORA, TABLE, Recipe, row_of, save_encoder, save_llm, targets_of

from harmonifuse_espnet.bin import score
from harmonifuse_espnet.bin.train import get_parser
from harmonifuse_espnet.common.compatibility import FORMAT_VERSION
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.inference.gate_trace import read_gates
from harmonifuse_espnet.model.fusion import LastLayerFusion, LayerFusion
from harmonifuse_espnet.model.gate import Projection, PromptGate, TaskGate
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.layer_weights import (
    LastWeights,
    PerTaskWeights,
    PromptWeights,
    SharedWeights,
    UniformWeights,
)
from harmonifuse_espnet.model.outputs import BothOutput, HeadOutput, TextOutput
from harmonifuse_espnet.train.task import HarmoniFuseTask


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


def parse(recipe: Recipe, config: dict[str, Any] | None = None, **options: Any) -> argparse.Namespace:
    return get_parser().parse_args(recipe.train_command("exp", config, **options))


def build(recipe: Recipe, config: dict[str, Any] | None = None, **options: Any) -> HarmoniFuseModel:
    torch.manual_seed(0)
    model = HarmoniFuseTask.build_model(parse(recipe, config, **options))
    assert isinstance(model, HarmoniFuseModel)
    return model


def one_step(recipe: Recipe, model: HarmoniFuseModel, config: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """Compute loss and gradients of a mixed batch; return its statistics."""
    preprocess = HarmoniFuseTask.build_preprocess_fn(parse(recipe, config), train=True)
    np.random.seed(0)
    examples = []
    for task, text in (("asr", "ONE TWO"), ("ser", "neu"), ("asr", "THREE")):
        speech = np.random.default_rng(len(examples)).normal(0, 0.1, 8000 + 500 * len(examples))
        examples.append((task, preprocess(task, {"speech": speech, "text": text, "task": task})))
    loss, stats, _ = model(**collate(examples)[1])
    loss.backward()
    return stats


def test_the_default_options_build_harmonifuse(recipe: Recipe) -> None:
    model = build(recipe)
    assert type(model.layer_weights) is PerTaskWeights and type(model.gate) is PromptGate
    assert type(model.fusion) is LayerFusion and type(model.fusion.weights) is PromptWeights
    assert model.fusion.weights.initial_logits.tolist() == [0, 0, 15] and model.layer_weights.weight.eq(0).all()
    assert type(model.label_output) is TextOutput
    assert model.ctc is not None and model.ctc_weight == 1.0 and not model.speech_first
    args = parse(recipe)
    assert (args.iterator_type, args.unused_parameters, args.task_pattern) == ("task", True, "round_robin")
    assert args.tasks == TABLE


@pytest.mark.parametrize(
    ("options", "part", "kind"),
    [
        ({"layer_weights": "shared"}, "layer_weights", SharedWeights),
        ({"layer_weights": "prompt"}, "layer_weights", PromptWeights),
        ({"layer_weights": "last"}, "layer_weights", LastWeights),
        ({"layer_weights": "uniform"}, "layer_weights", UniformWeights),
        ({"component_gate": "task"}, "gate", TaskGate),
        ({"component_gate": "none"}, "gate", Projection),
        ({"fusion": "task"}, "fusion.weights", PerTaskWeights),
        ({"fusion": "static"}, "fusion.weights", SharedWeights),
        ({"fusion": "last"}, "fusion", LastLayerFusion),
        ({"label_output": "head"}, "label_output", HeadOutput),
        ({"label_output": "both"}, "label_output", BothOutput),
        ({"ctc": "false"}, "ctc", type(None)),
    ],
)
def test_gradients_reach_all_parameters_with_each_choice(
    recipe: Recipe, options: dict[str, Any], part: str, kind: type
) -> None:
    model = build(recipe, **options)
    chosen: Any = model
    for name in part.split("."):
        chosen = getattr(chosen, name)
    assert type(chosen) is kind
    stats = one_step(recipe, model)
    assert float(stats["loss"]) > 0 and ("loss_ctc_asr" in stats) == (options.get("ctc") != "false")
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not [name for name, parameter in trained.items() if parameter.grad is None]


def test_each_label_task_has_a_classifier_of_its_own_labels(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, {"gender": GENDER, **TABLE})
    model = build(recipe, {"label_output_conf": {"dropout": 0.3}}, label_output="both")
    output: Any = model.label_output
    assert {task: head.out_features for task, head in output.heads.items()} == {"0": 2, "2": 3}
    assert output.dropout.p == 0.3
    with pytest.raises(ValueError, match=r"label_output_conf: TextOutput has no argument \['dropout'\]"):
        build(recipe, {"label_output_conf": {"dropout": 0.3}})


def test_a_config_of_a_later_format_version_is_refused(recipe: Recipe) -> None:
    later = FORMAT_VERSION + 1
    message = f"config.yaml: format version {later}, this harmonifuse_espnet reads up to {FORMAT_VERSION}; install a"
    with pytest.raises(ValueError, match=message):
        build(recipe, format_version=later)
    assert parse(recipe).format_version == FORMAT_VERSION


def test_building_a_model_does_not_change_the_options(recipe: Recipe) -> None:
    args = parse(recipe)
    before = copy.deepcopy(vars(args))
    HarmoniFuseTask.build_model(args)
    assert vars(args) == before


def test_a_config_without_a_new_option_gets_its_default(recipe: Recipe) -> None:
    args = parse(recipe)
    del args.label_output, args.label_output_conf
    model = HarmoniFuseTask.build_model(args)
    assert isinstance(model, HarmoniFuseModel) and type(model.label_output) is TextOutput


def test_pretrained_models_are_frozen_and_lora_is_trained(recipe: Recipe, tmp_path: Path) -> None:
    wavlm, llm = save_encoder(tmp_path / "wavlm"), save_llm(tmp_path / "llm")
    config = {"frontend_conf": {"model": wavlm}, "decoder_conf": {"model": llm, "lora": LORA}}
    model = build(recipe, config, frontend="huggingface")
    one_step(recipe, model, config)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith(("frontend", "decoder"))} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    assert not [name for name in trained if model.get_parameter(name).grad is None]


def test_vocabulary_size_and_opening_token_are_those_of_the_tokenizer(recipe: Recipe) -> None:
    model, preprocess = build(recipe), HarmoniFuseTask.build_preprocess_fn(parse(recipe), train=False)
    size = preprocess.tokenizer.vocab_size  # type: ignore[attr-defined]
    assert model.decoder.llm.config.vocab_size == size and model.opening_ids == (1,)
    assert model.ctc is not None and model.ctc.project.out_features == size + 1


def test_feats_stats_are_loaded_by_the_frontend_and_must_exist(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "feats_stats.npz"
    np.savez(path, count=10, sum=np.full(12, 20.0), sum_square=np.full(12, 90.0))
    model = build(recipe, feats_stats=path)
    torch.testing.assert_close(model.frontend.normalize.mean, torch.full((12,), 2.0), check_dtype=False)
    with pytest.raises(FileNotFoundError, match="absent.npz: no such statistics file; stage 5 creates it"):
        build(recipe, feats_stats=tmp_path / "absent.npz")


def test_an_invalid_table_of_tasks_is_refused_with_the_reason(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("asr: {answer: text}\n")
    with pytest.raises(InputError) as error:
        parse(recipe, tasks=tmp_path / "bad.yaml")
    assert str(error.value) == (
        f"--tasks: {tmp_path}/bad.yaml: task 'asr' has no prompts; add at least one wording under 'prompts'"
    )


def test_each_batch_has_one_task_and_tasks_follow_the_pattern(recipe: Recipe) -> None:
    args = parse(recipe, task_pattern="{asr: 2, ser: 1}", task_batches="{ser: {batch_size: 2}}")
    option = DistributedOption()
    train, valid = (HarmoniFuseTask.build_iter_factory(args, option, mode) for mode in ("train", "valid"))
    schedule = [[ids[0].split("_")[1] for ids, _ in train.build_iter(epoch)] for epoch in (1, 2)]
    # asr has two batches and ser has three, rounded up to whole patterns.
    assert schedule == [["asr", "ser", "asr"] * 2] * 2
    for ids, keywords in train.build_iter(3):
        kinds = {key.split("_")[1] for key in ids}
        assert len(kinds) == 1 and len(ids) == {"asr": 3, "ser": 2}[kinds.pop()]
        assert targets_of(row_of(keywords["batch"], 0)).tokens[0, -1] == 2
    assert sorted(key for ids, _ in valid.build_iter(1) for key in ids) == sorted(
        line.split()[0] for line in (recipe.folder / "valid/text").read_text().splitlines()
    )


def test_batches_can_be_balanced_and_mixed_by_options(recipe: Recipe) -> None:
    args = parse(recipe, task_batches="{ser: {balanced: true}}", task_order="mixed", num_iters_per_epoch=4)
    factory = HarmoniFuseTask.build_iter_factory(args, DistributedOption(), "train")
    labels = dict(line.split() for line in (recipe.folder / "train/text").read_text().splitlines() if "_ser_" in line)
    batches = factory.batches(1)
    assert [{key.split("_")[1] for key in batch} for batch in batches] == [{"asr", "ser"}] * 4
    drawn = sorted(labels[key] for batch in batches for key in batch if key in labels)
    assert drawn == ["ang"] * 2 + ["neu"] * 2 + ["sad"] * 2  # two batches of three


def test_a_new_task_needs_only_a_table_entry_and_a_data_folder(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, {**TABLE, "gender": GENDER})
    experiment = recipe.train("exp", max_epoch=2)
    stats = torch.load(experiment / "checkpoint.pth", weights_only=False)["reporter"]["stats"][2]
    for kind in ("train", "valid"):
        assert {"loss_asr", "loss_ser", "loss_gender", "acc_gender", "loss_ctc_asr"} <= set(stats[kind])
        assert "loss_ctc_gender" not in stats[kind]
    assert yaml.safe_load((experiment / "config.yaml").read_text())["tasks"]["gender"] == GENDER
    out = recipe.decode(experiment, tmp_path / "decode")
    score.main(["--tasks", str(recipe.tasks), "--data_dir", str(tmp_path / "test"), "--decode_dir", str(out)])
    tasks = json.loads((out / "score.json").read_text())["tasks"]
    assert list(tasks) == ["asr", "ser", "gender"]
    scores = tasks["gender"]["scores"]["llm"]
    assert scores["labels"] == ["f", "m"] and np.sum(scores["confusion"]) == 3 == tasks["gender"]["utterances"]
    assert scores["wa"] == pytest.approx(100 * np.trace(scores["confusion"]) / 3)
    assert {"wer", "cer"} <= set(tasks["asr"]["scores"]["ctc"])


def test_a_model_trained_on_dumped_layers_decodes_audio_with_the_same_results(tmp_path: Path) -> None:
    wavlm = save_encoder(tmp_path / "wavlm")
    recipe = Recipe(tmp_path, encoder=wavlm)
    experiment = recipe.train("exp", {"frontend_conf": {"num_layers": 3, "hidden_size": 16}}, frontend="precomputed")
    dump = ["--data_dir", str(tmp_path / "ssl/test"), "--feats_type", "ssl"]
    dumped = recipe.decode(experiment, tmp_path / "dumped", *dump)
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    config |= {"frontend": "huggingface", "frontend_conf": {"model": wavlm}}
    (tmp_path / "encoded.yaml").write_text(yaml.safe_dump(config))
    encoded = recipe.decode(experiment, tmp_path / "encoded", "--train_config", str(tmp_path / "encoded.yaml"))
    for name in ("text", "ctc_text"):
        assert (dumped / name).read_text() == (encoded / name).read_text()
    rows = [map(json.loads, (folder / "label_probs.jsonl").read_text().splitlines()) for folder in (dumped, encoded)]
    for one, other in zip(*rows, strict=True):
        assert one["id"] == other["id"] and one["probs"] == pytest.approx(other["probs"], abs=1e-5)
    for trace, other_trace in zip(read_gates(dumped / "gate.json"), read_gates(encoded / "gate.json"), strict=True):
        assert (trace.utterance, trace.frame_shift) == (other_trace.utterance, other_trace.frame_shift)
        assert trace.mean == pytest.approx(other_trace.mean, abs=2e-4) and not trace.logmel and other_trace.logmel


def test_freezing_and_parameter_groups_apply_in_training_and_freezing_also_after_loading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "decoder_conf": {"model": save_llm(tmp_path), "lora": LORA},
        "freeze_param": ["connector"],
        "optim_groups": [{"match": "lora_", "lr": 1.0e-4}, {"match": "^gate", "lr": 2.0e-3}],
        "accum_grad": 2,
    }
    recipe = Recipe(tmp_path, tokenizer=str(tmp_path))
    caplog.set_level("INFO")
    experiment = recipe.train("exp", config)
    state = torch.load(experiment / "checkpoint.pth", weights_only=False)
    assert [group["initial_lr"] for group in state["optimizers"][0]["param_groups"]] == [1.0e-3, 1.0e-4, 2.0e-3]
    assert "freeze_param connector: " in caplog.text and "Parameters:\ncomponent " in caplog.text
    assert re.search(r"\ndecoder LoRA +672 +672\n", caplog.text) and re.search(r"\nconnector +[\d,]+ +0\n", caplog.text)
    before = HarmoniFuseTask.build_model(parse(recipe, config))
    after, _ = HarmoniFuseTask.build_model_from_file(experiment / "config.yaml", experiment / "1epoch.pth")
    assert not any(weight.requires_grad for weight in after.connector.parameters())
    assert any(name.startswith("connector.") for name in torch.load(experiment / "1epoch.pth"))  # initialised at random
    assert before.state_dict().keys() == after.state_dict().keys()


def test_options_that_contradict_each_other_or_match_nothing_are_refused(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {"optim_groups": [{"match": "^gate", "lr": 2.0e-3}]}
    schedule = {"scheduler": "onecyclelr", "scheduler_conf": {"max_lr": 1.0e-3, "total_steps": 10}}
    with pytest.raises(SystemExit):
        recipe.train("exp", {**groups, **schedule})
    assert "scheduler_conf has max_lr: 0.001, which would replace the learning rates" in capsys.readouterr().err
    recipe.train("listed", {**groups, **schedule, "scheduler_conf": {"max_lr": [1.0e-3, 2.0e-3], "total_steps": 10}})
    with pytest.raises(SystemExit):
        recipe.train("exp", {"freeze_param": ["connecter"]})
    assert "freeze_param: 'connecter' matches none of the" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        recipe.train("exp", {"task_pattern": {"asr": 2, "ser": 1}, "accum_grad": 2})
    assert "--accum_grad 2 is not a multiple of 3, the length of the pattern asr,ser,asr" in capsys.readouterr().err
