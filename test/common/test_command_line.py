"""The options that commands share."""

from __future__ import annotations

import pytest

from harmonifuse_espnet.common.command_line import add_boolean, add_data_dir, add_ngpu, add_tasks, command_parser


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
    assert "argument --strict: 'yes' is not true or false" in capsys.readouterr().err


def test_data_dir_and_tasks_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("score", None)
    add_data_dir(parser, "data folder")
    add_tasks(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([])
    assert "required: --data_dir, --tasks" in capsys.readouterr().err
