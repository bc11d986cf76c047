"""How commands end: one line for what the user can correct, a traceback for everything else."""

from __future__ import annotations

import pytest

from harmonifuse_espnet.common.errors import (
    AccessError,
    InputError,
    MissingFileError,
    UserError,
    report_user_errors,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(InputError, ValueError), (MissingFileError, FileNotFoundError), (AccessError, OSError)],
)
def test_a_user_error_is_one_line_and_also_a_builtin_error(
    error: type[UserError], builtin: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert issubclass(error, builtin)
    with pytest.raises(SystemExit) as ended, report_user_errors():
        raise error("conf/train.yaml: no such file; correct the path")
    assert ended.value.code == 1 and isinstance(ended.value.__cause__, error)
    assert capsys.readouterr() == ("", "error: conf/train.yaml: no such file; correct the path\n")


def test_an_error_of_the_system_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), report_user_errors():
        raise OSError(28, "No space left on device", "exp/model.zip")
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: 'exp/model.zip'\n"


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError])
def test_any_other_error_keeps_its_traceback(error: type[Exception]) -> None:
    with pytest.raises(error, match="from inside PyTorch"), report_user_errors():
        raise error("from inside PyTorch")


def test_debugging_shows_the_traceback_of_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMONIFUSE_DEBUG", "1")
    with pytest.raises(InputError), report_user_errors():
        raise InputError("anything")


@pytest.mark.bad_input
@pytest.mark.parametrize("error", [InputError, MissingFileError, AccessError])
def test_characters_that_change_the_line_are_escaped(error: type[UserError]) -> None:
    message = str(error("text:1: got 'É\u00a0a\nb\x1b[31m\u2028\ud800'; correct it"))
    assert message == "text:1: got 'É\u00a0a\\nb\\x1b[31m\\u2028\\ud800'; correct it"


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    message = str(InputError(f"text:1: got '{'9' * 10_000}'; correct the line"))
    assert message.startswith("text:1: got '999") and message.endswith("999'; correct the line")
    assert " ... " in message and len(message) == 1505
