"""Checkpoints, options and configs of earlier versions load; those of later versions are refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import TABLE, Recipe, batch, build_model, noise

from harmonifuse_espnet.common.compatibility import (
    FORMAT_VERSION,
    RENAMED_PARAMETERS,
    check_format_version,
    rename_options,
    upgrade_state_dict,
)
from harmonifuse_espnet.inference.speech2text import Speech2Text
from harmonifuse_espnet.model.gate import PromptGate, TaskGate
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel


def with_gate(kind: type[PromptGate], seed: int) -> HarmoniFuseModel:
    model = build_model(seed)
    torch.manual_seed(seed)
    model.gate = kind(16, 24, 32, len(TABLE))
    return model.eval()


def format_1(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters of a current state dict the names of format 1."""
    renamed = {}
    for name, value in state_dict.items():
        for old, new in RENAMED_PARAMETERS.items():
            name = old + name.removeprefix(new) if name.startswith(new) else name
        renamed[name] = value
    return renamed


@pytest.mark.parametrize(
    ("kind", "old_names"),
    [
        (PromptGate, {"gate.query_norm.weight", "gate.query_norm.bias", "gate.gate_query.weight"}),
        (
            TaskGate,
            {"gate.query_norm.weight", "gate.query_norm.bias", "gate.gate_query.weight", "gate.task_query.weight"},
        ),
    ],
)
def test_a_state_dict_of_format_1_loads_to_the_same_outputs(kind: type[PromptGate], old_names: set[str]) -> None:
    model, other, data = with_gate(kind, seed=0), with_gate(kind, seed=1), batch((0, 1, 0))
    state = model.state_dict()
    old = format_1(state)
    assert old.keys() - state.keys() == old_names
    assert upgrade_state_dict(old).keys() == state.keys() and upgrade_state_dict(state).keys() == state.keys()
    with torch.no_grad():
        expected = model(data)[0]
        assert not torch.equal(other(data)[0], expected)
        other.load_state_dict(old)
        assert torch.equal(other(data)[0], expected)


def test_parameters_missing_from_a_state_dict_of_format_1_are_named() -> None:
    old = format_1(build_model().state_dict())
    del old["gate.gate_query.weight"]
    with pytest.raises(
        ValueError, match=r"config: missing weights: 1 \(the first: gate.gate_prompt.weight \(24, 32\)\); use"
    ):
        build_model().load_state_dict(old)


@pytest.mark.parametrize(
    ("option", "old", "new"),
    [("model_conf", "answer_dropout", "word_dropout"), ("task_batches", "redraw", "shuffle_window")],
)
def test_an_old_option_name_is_mapped_with_a_warning(
    option: str, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert rename_options(option, {"other": 1, old: 0.3}) == {"other": 1, new: 0.3}
    assert f"{option}: {old} is now called {new}" in caplog.text
    caplog.clear()
    assert rename_options(option, {"other": 1, new: 0.3}) == {"other": 1, new: 0.3} and not caplog.text


@pytest.mark.parametrize("first", ["answer_dropout", "word_dropout"])
def test_the_old_and_the_new_name_of_an_option_together_are_refused(first: str) -> None:
    conf = {first: 0.1, "answer_dropout": 0.1, "word_dropout": 0.2}
    with pytest.raises(
        ValueError, match="model_conf has both word_dropout and its old name answer_dropout; remove answer_dropout"
    ):
        rename_options("model_conf", conf)


def test_a_later_format_version_is_refused_with_both_versions() -> None:
    for version in range(1, FORMAT_VERSION + 1):
        check_format_version(version, "config.yaml")
    later = FORMAT_VERSION + 1
    message = f"config.yaml: format version {later}, this harmonifuse_espnet reads up to {FORMAT_VERSION}; install a"
    with pytest.raises(ValueError, match=message):
        check_format_version(later, "config.yaml")


def test_a_config_and_a_checkpoint_of_format_1_give_the_same_answers(tmp_path: Path) -> None:
    """Before format 2, config.yaml had no ``format_version``, and ``word_dropout`` was ``answer_dropout``."""
    experiment = Recipe(tmp_path).train("exp", {"model_conf": {"word_dropout": 0.1}})
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    assert config.pop("format_version") == FORMAT_VERSION
    config["model_conf"] = {"answer_dropout": config["model_conf"]["word_dropout"]}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
    torch.save(format_1(torch.load(experiment / "valid.loss.ave.pth")), tmp_path / "old.pth")
    current = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    old = Speech2Text(tmp_path / "old.yaml", tmp_path / "old.pth")
    assert old.model.word_dropout == 0.1
    for task in TABLE:
        assert old(noise(9000), task) == current(noise(9000), task)
