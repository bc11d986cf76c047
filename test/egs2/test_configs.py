"""Every committed training configuration builds, on the meta device; a variant differs only in the options it lists."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import yaml
from published import PUBLISHED, write_hub_cache
from tiny import write_tokenizer

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.data.tasks import load_tasks
from harmonifuse_espnet.train.task import HarmoniFuseTask

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
TUNING = sorted(path for path in EGS2.glob("*/slm1/conf/tuning/*.yaml") if "TEMPLATE" not in path.parts)
CONFIGS = [*sorted(EGS2.glob("*/slm1/conf/train*.yaml")), *TUNING]


def listed(config: Path) -> dict[str, Any]:
    """The options in a variant's own file."""
    own = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert own.pop("base") == "../train.yaml"
    return own


def name_of(config: Path) -> str:
    """The name of a test's parameter."""
    return str(config.relative_to(EGS2))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hugging Face Hub offline, with only configurations in its cache."""
    write_hub_cache(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def parse(config: Path, folder: Path) -> argparse.Namespace:
    """The options of training with a configuration and a small tokenizer."""
    tasks = next(parent / "tasks.yaml" for parent in config.parents if (parent / "tasks.yaml").is_file())
    tokenizer = write_tokenizer(folder / "ctc", load_tasks(tasks))
    options = ["--config", str(config), "--tasks", str(tasks), "--output_dir", str(folder), "--ngpu", "0"]
    options += ["--tokenizer", tokenizer, "--ctc_tokenizer", tokenizer]
    return parse_with_config(HarmoniFuseTask.get_parser(), options)


def differences(one: argparse.Namespace, other: argparse.Namespace) -> set[str]:
    """The names of the options that differ."""
    return {name for name, value in vars(one).items() if vars(other)[name] != value} - {"config"}


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@pytest.mark.usefixtures("hub")
def test_a_committed_configuration_builds_and_its_models_have_the_published_sizes(config: Path, tmp_path: Path) -> None:
    args = parse(config, tmp_path)
    with torch.device("meta"):
        model = HarmoniFuseTask.build_model(args)
    real = [weight.numel() for weight in model.parameters() if not weight.is_meta]
    assert sum(real) <= 1024  # Hugging Face creates WavLM's mask vector on the CPU in any case
    for part, conf in (("frontend", args.frontend_conf), ("decoder", args.decoder_conf)):
        weights = dict(getattr(model, part).named_parameters())
        count = sum(weight.numel() for name, weight in weights.items() if "lora_" not in name)
        print(f"{config.relative_to(EGS2)}: {part} {conf.get('model', '')} {count:,} parameters")
        if "model" in conf:
            assert count / 1e6 == pytest.approx(PUBLISHED[conf["model"]][1], rel=1e-3)
            trained = {name for name, weight in weights.items() if weight.requires_grad}
            assert trained == {name for name in weights if "lora_" in name}


def test_the_large_configurations_are_included() -> None:
    assert {config.parts[-4] for config in CONFIGS} >= {"librispeech_iemocap", "librispeech", "iemocap"}


@pytest.mark.parametrize("config", TUNING, ids=name_of)
def test_a_variant_differs_from_its_base_only_in_the_options_it_lists(config: Path, tmp_path: Path) -> None:
    base = parse(config.parents[1] / "train.yaml", tmp_path)
    others = {name for name, value in listed(config).items() if getattr(base, name) != value}
    assert differences(parse(config, tmp_path), base) == others
    assert config.read_text(encoding="utf-8").startswith("# ")  # has a description


@pytest.mark.parametrize(("recipe", "dropped"), [("an4_crema_d", {"fusion"}), ("mini", set())])
def test_the_main_variants_differ_in_the_options_of_their_names(recipe: str, dropped: set[str], tmp_path: Path) -> None:
    conf = EGS2 / recipe / "slm1/conf"
    full, naive, prompt_only, asr, ser = (
        parse(conf / name, tmp_path)
        for name in (
            "train.yaml",
            *(f"tuning/{name}.yaml" for name in ("naive", "prompt_only", "asr_only", "ser_only")),
        )
    )
    assert differences(naive, prompt_only) == {"task_order"}
    assert differences(full, prompt_only) == {"layer_weights", "component_gate", "fusion"} - dropped
    assert naive.component_gate is None and full.task_order == "interleaved"
    assert (asr.task_pattern["ser"], ser.task_pattern["asr"]) == (0, 0)
    assert asr.task_pattern["asr"] > 0 and ser.task_pattern["ser"] > 0


@pytest.mark.parametrize("task", ["asr", "ser"])
def test_a_single_task_share_config_has_the_full_model_s_number_of_batches_of_its_task(
    task: str, tmp_path: Path
) -> None:
    conf = EGS2 / "an4_crema_d/slm1/conf"
    full, share = (parse(conf / name, tmp_path) for name in ("train.yaml", f"train_{task}_share.yaml"))
    assert differences(full, share) == {"task_pattern", "num_iters_per_epoch", "scheduler_conf"}
    assert [name for name, weight in share.task_pattern.items() if weight] == [task]
    assert full.task_pattern == "round_robin"  # two tasks: each has half of the batches
    steps = share.num_iters_per_epoch * share.max_epoch
    assert steps == share.scheduler_conf["total_steps"] == full.num_iters_per_epoch * full.max_epoch / 2


def test_variants_are_defined_once() -> None:
    recipes = {path.parts[-5] for path in TUNING}
    assert recipes == {"an4_crema_d", "mini"} and len(TUNING) == 2 * 22
    for recipe in recipes:
        link = EGS2 / recipe / "slm1/conf/tuning"
        assert link.is_symlink() and link.resolve() == (EGS2 / "TEMPLATE/slm1/conf/tuning").resolve(strict=True)
