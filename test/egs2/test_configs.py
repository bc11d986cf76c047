"""Every committed training configuration is built, on the meta device, and its models have their published sizes."""

from __future__ import annotations

import argparse
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from published import PUBLISHED, write_hub_cache
from tiny import write_tokenizer

from harmonifuse_espnet.prompts import load_tasks
from harmonifuse_espnet.task import HarmoniFuseTask

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
CONFIGS = sorted(EGS2.glob("*/slm1/conf/**/train*.yaml"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub as it is seen offline, with nothing but configurations in its cache."""
    write_hub_cache(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def parse(config: Path, folder: Path) -> argparse.Namespace:
    """The options of training with a configuration, on a small tokenizer."""
    tasks = config.parent / "tasks.yaml"
    tokenizer = write_tokenizer(folder / "ctc", load_tasks(tasks))
    options = ["--config", str(config), "--tasks", str(tasks), "--output_dir", str(folder), "--ngpu", "0"]
    return HarmoniFuseTask.get_parser().parse_args([*options, "--tokenizer", tokenizer, "--ctc_tokenizer", tokenizer])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(EGS2)))
@pytest.mark.usefixtures("hub")
def test_a_committed_configuration_is_built_and_its_models_have_the_published_sizes(
    config: Path, tmp_path: Path
) -> None:
    args = parse(config, tmp_path)
    with torch.device("meta"):
        model = HarmoniFuseTask.build_model(args)
    real = [weight.numel() for weight in model.parameters() if not weight.is_meta]
    assert sum(real) <= 1024  # Hugging Face makes WavLM's mask vector on the CPU whatever it is told
    for part, conf in (("frontend", args.frontend_conf), ("decoder", args.decoder_conf)):
        weights = dict(getattr(model, part).named_parameters())
        count = sum(weight.numel() for name, weight in weights.items() if "lora_" not in name)
        print(f"{config.relative_to(EGS2)}: {part} {conf.get('model', '')} {count:,} parameters")
        if "model" in conf:
            assert count / 1e6 == pytest.approx(PUBLISHED[conf["model"]][1], rel=1e-3)
            trained = {name for name, weight in weights.items() if weight.requires_grad}
            assert trained == {name for name in weights if "lora_" in name}


def test_the_large_configurations_are_among_them() -> None:
    assert {path.parts[-4] for path in CONFIGS} >= {"librispeech_iemocap", "librispeech", "iemocap"}
