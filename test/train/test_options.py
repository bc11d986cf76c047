"""options.json describes the training options, and the parser that is built from it accepts what ESPnet's accepts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tiny import Recipe

from harmonifuse_espnet.bin.train import get_parser
from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.train import options
from harmonifuse_espnet.train.options import DESCRIPTION, OTHER, build_parser, check_command


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return json.loads(DESCRIPTION.read_text())


def values(args: argparse.Namespace) -> dict[str, Any]:
    """Options by name, with lists for tuples, without what only one of the parsers has."""
    found = {name: value for name, value in vars(args).items() if name not in ("required", "help")}
    return json.loads(json.dumps(found))


def test_both_parsers_read_a_command_in_the_same_way(description: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe(tmp_path)
    config = {"optim": "AdamW", "scheduler": "none", "component_gate": "none", "max_cache_size": "1GB", "seed": 3}
    command = recipe.train_command("exp", config, task_pattern="{asr: 2, ser: 1}", optim_conf="lr=1e-3", use_amp="yes")
    command += ["--freeze_param", "a", "b", "--optim_groups", "[{match: x, lr: 1e-3}]", "--max_ep", "1e1"]
    light = parse_with_config(build_parser(description), command)
    full = parse_with_config(get_parser(), command)
    assert values(light) == values(full)
    assert (light.optim, light.scheduler, light.component_gate, light.max_epoch) == ("adamw", None, None, 10)
    assert light.optim_conf == {"lr": 0.001} and light.optim_groups == [{"match": "x", "lr": 0.001}]


def test_every_option_has_a_known_kind(description: dict[str, Any]) -> None:
    kinds = {option.get("kind") for option in description["options"]}
    assert OTHER not in kinds and {"int", "float", "str2bool", "str2triple_str", "lower", "upper", None} <= kinds


@pytest.mark.parametrize("changed", [{"espnet": "209901"}, {"registry.py": "0123456789abcdef"}])
def test_with_another_espnet_or_a_new_option_the_full_parser_decides(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    with pytest.raises(InputError):
        check_command(["--new_option", "3"])
    monkeypatch.setattr(options, "made_from", lambda made_from=options.made_from: {**made_from(), **changed})
    check_command(["--new_option", "3"])
    with pytest.raises(InputError) as error:  # the options are known, so the files are checked
        check_command(["--max_epoch", "3"])
    assert str(error.value) == "required options are missing: --output_dir, --tasks, --tokenizer"


@pytest.mark.parametrize("word", ["--help", "-h", "--print_config"])
def test_help_needs_no_required_options(word: str) -> None:
    check_command([word])
