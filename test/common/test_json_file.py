"""The gate of all JSON: finite numbers, no duplicate keys, the line in every error."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.json_file import read_json, read_json_lines


def test_values_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -0.5, 1e-3, null, true],\r\n "b": "\\ud83d\\ude00"}\r\n')
    assert read_json(path, "") == {"a": [1, -0.5, 0.001, None, True], "b": "😀"}
    path.write_text('{"a": "\u2028"}\n{"a": 2}\n', encoding="utf-8")
    assert list(read_json_lines(path, "")) == [(1, {"a": "\u2028"}), (2, {"a": 2})]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n"a": 1,\n}', ":3: not valid JSON: Expecting property name enclosed in double quotes"),
        ("", ":1: not valid JSON: Expecting value"),
        ('{"a": 1} {"b": 2}', ":1: not valid JSON: Extra data"),
        ('"a\nb"', ":1: not valid JSON: Invalid control character at"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', ": duplicate key 'c'"),
        ("[NaN]", ": NaN is not a finite number"),
        ("[-Infinity]", ": -Infinity is not a finite number"),
        ("[1, 1e999]", ": 1e999 is not a finite number"),
        ("9" * 5000, ": a number of 5000 digits, at most 300 are expected"),
        ('["\\ud800"]', ": has one half of a surrogate pair, which is no character"),
        ("[" * 100_000, ": brackets are nested too deeply"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_json(path, "run stage 8 again")
    assert str(error.value) == f"{path}{message}; run stage 8 again"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", ": not valid JSON: Expecting value"),
        ("[1]", ": expected a JSON mapping, got [1]"),
        ('{"a": NaN}', ": NaN is not a finite number"),
        ('{"a": 1, "a": 2}', ": duplicate key 'a'"),
        ('{"a": 1', ": not valid JSON: Expecting ',' delimiter"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(InputError) as error:
        list(read_json_lines(path, "run stage 8 again"))
    assert str(error.value) == f"{path}:2{message}; run stage 8 again"


@pytest.mark.bad_input
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as error:
        read_json(tmp_path / "a.json", "run stage 8")
    assert str(error.value) == f"{tmp_path}/a.json: no such file; run stage 8"
