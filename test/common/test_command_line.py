"""The options that commands share."""

from __future__ import annotations

import argparse

import pytest

from harmonifuse_espnet.common.command_line import (
    DictAction,
    add_boolean,
    add_data_dir,
    add_ngpu,
    add_tasks,
    command_parser,
    config_value,
)
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.option_types import OrNone, WholeNumber, structured, triple


def test_help_has_the_command_the_description_as_written_and_defaults() -> None:
    parser = command_parser("score", "Stage 8.\n\n  indented: as written")
    add_boolean(parser, "--strict", default=True, help="fail on errors")
    add_ngpu(parser)
    text = parser.format_help()
    assert text.startswith("usage: python -m harmonifuse_espnet.bin.score ")
    assert "Stage 8.\n\n  indented: as written\n" in text
    assert "--strict true|false" in text and "fail on errors (default: true)" in text
    assert "0: CPU, 1: one GPU (default: 0)" in text


def test_booleans_are_true_or_false_in_any_case(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("score", None)
    add_boolean(parser, "--strict", default=False, help="fail on errors")
    values = [parser.parse_args(words).strict for words in ([], ["--strict", "true"], ["--strict", "False"])]
    assert values == [False, True, False]
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--strict", "yes"])
    assert capsys.readouterr().err == "error: --strict: 'yes' is not true or false\n"


def test_data_dir_and_tasks_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("score", None)
    add_data_dir(parser, "data folder")
    add_tasks(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([])
    assert capsys.readouterr().err == "error: the following arguments are required: --data_dir, --tasks\n"


def make_parser() -> argparse.ArgumentParser:
    parser = command_parser("score", None)
    parser.add_argument("--max_epoch", type=WholeNumber(1), default=3)
    parser.add_argument("--optim_conf", action=DictAction, default={"lr": 1.0})
    parser.add_argument("--task_pattern", type=structured, default="round_robin")
    parser.add_argument("--freeze_param", type=str, nargs="*", default=[])
    parser.add_argument("--keep", type=WholeNumber(1), nargs="+", default=[10])
    parser.add_argument("--pair", type=str, nargs=2, default=["a", "b"])
    parser.add_argument("--data", type=triple, action="append", default=[])
    parser.add_argument("--patience", type=OrNone(WholeNumber(0)), default=5)
    parser.add_argument("--order", choices=["up", "down"], type=str, default="up")
    parser.add_argument("--output_dir", type=str, default=None)
    return parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_epoch", "x"], "--max_epoch: 'x' is not a whole number; expected a number from 1"),
        (["--max_epochs", "3"], "unknown option --max_epochs; did you mean --max_epoch? --help lists all options"),
        (["--max_epochs=3"], "unknown option --max_epochs; did you mean --max_epoch? --help lists all options"),
        (["--zzz", "3"], "unknown option --zzz; --help lists all options"),
        (
            ["--order", "up", "down"],
            "'down' belongs to no option; put values with spaces in quotes, and -- before every option's name",
        ),
        (["--order", "side"], "--order: invalid choice: 'side' (choose from 'up', 'down')"),
        (["--max_epoch"], "--max_epoch: expected one argument"),
        (["--optim_conf", "lr"], "--optim_conf: 'lr' has no value; expected key=value or '{key: value}'"),
        (["--optim_conf", "[1]"], "--optim_conf: '[1]' has no value; expected key=value or '{key: value}'"),
        (
            ["--optim_conf", "model=/a: b"],
            "--optim_conf: '/a: b' has a colon and a space; write it in quotes, or a mapping in {}",
        ),
        (
            ["--optim_conf", "{lr: [1}"],
            "--optim_conf: '{lr: [1}':1: not valid YAML: expected ',' or ']', but got '}'; correct it",
        ),
    ],
)
def test_an_error_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args(words)
    assert capsys.readouterr().err.replace("(choose from up, down)", "(choose from 'up', 'down')") == (
        f"error: {message}\n"
    )


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["lr=1e-3"], {"lr": 0.001}),
        (["lr=1E3", "eps=.5e-2"], {"lr": 1000.0, "eps": 0.005}),
        (["lr=none"], {"lr": "none"}),
        (["lr="], {"lr": ""}),
        (["lr=null"], {"lr": None}),
        (["{max_lr: 1e-3, betas: [0.9, 1e-1]}"], {"lr": 1.0, "max_lr": 0.001, "betas": [0.9, 0.1]}),
        (["{'lr': 2, \"on\": true}"], {"lr": 2, "on": True}),
        (["a.b=1", "a.c={d: 2}"], {"lr": 1.0, "a": {"b": 1, "c": {"d": 2}}}),
        (["model=/path with, comma"], {"lr": 1.0, "model": "/path with, comma"}),
        (["model=/path #1"], {"lr": 1.0, "model": "/path #1"}),
        (["model='/path: #1'"], {"lr": 1.0, "model": "/path: #1"}),
        (["{model: a=b}"], {"lr": 1.0, "model": "a=b"}),
        (["model=a=b"], {"lr": 1.0, "model": "a=b"}),
        (["lr=__import__('os').getcwd()"], {"lr": "__import__('os').getcwd()"}),
    ],
)
def test_entries_of_a_mapping_are_safe_yaml(words: list[str], value: dict[str, object]) -> None:
    parser = make_parser()
    command = [word for entry in words for word in ("--optim_conf", entry)]
    assert parser.parse_args(command).optim_conf == value
    assert parser.parse_args([]).optim_conf == {"lr": 1.0}


@pytest.mark.parametrize(
    ("option", "value", "converted"),
    [
        ("max_epoch", 4, 4),
        ("max_epoch", "4", 4),
        ("max_epoch", 1e1, 10),
        ("optim_conf", {"lr": 2}, {"lr": 2}),
        ("task_pattern", {"asr": 2}, {"asr": 2}),
        ("task_pattern", "proportional", "proportional"),
        ("freeze_param", "connector", ["connector"]),
        ("freeze_param", ["a", 3], ["a", "3"]),
        ("keep", 3, 3),
        ("keep", [3, "5"], [3, 5]),
        ("data", [["a, b/wav.scp", "speech", "sound"]], [("a, b/wav.scp", "speech", "sound")]),
        ("data", "a, b/wav.scp,speech,sound", [("a, b/wav.scp", "speech", "sound")]),
        ("patience", None, None),
        ("patience", "none", None),
        ("output_dir", None, None),
        ("output_dir", 3, "3"),
    ],
)
def test_values_of_a_configuration_are_converted_as_on_the_command_line(
    option: str, value: object, converted: object
) -> None:
    assert config_value(find(option), value) == converted


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_epoch", "x", "'x' is not a whole number; expected a number from 1"),
        ("max_epoch", 2.5, "'2.5' is not a whole number; expected a number from 1"),
        ("max_epoch", True, "'true' is not a whole number; expected a number from 1"),
        ("max_epoch", [3], "'[3]' is not a whole number; expected a number from 1"),
        ("max_epoch", 0, "0 is out of range; expected a whole number from 1"),
        ("max_epoch", None, "null is no value of this option; remove the line to use the default"),
        ("max_epoch", {"a": 1}, "{'a': 1} is a mapping; expected one value"),
        ("optim_conf", None, "None is not a mapping; expected '{key: value}'"),
        ("optim_conf", "lr=3", "'lr=3' is not a mapping; expected '{key: value}'"),
        ("keep", 0, "0 is out of range; expected a whole number from 1"),
        ("keep", [3, "x"], "'x' is not a whole number; expected a number from 1"),
        ("pair", ["a"], "['a'] has 1 values, expected 2"),
        ("order", "side", "'side' is unknown; expected one of: up, down"),
        ("data", ["valid", "acc", "max"], "'valid' is not three values separated by commas"),
    ],
)
def test_wrong_values_of_a_configuration(option: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        config_value(find(option), value)
    assert str(error.value) == message


def find(option: str) -> argparse.Action:
    return next(action for action in make_parser()._actions if action.dest == option)
