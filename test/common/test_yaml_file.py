"""The gate of all YAML: numbers as people write them, no duplicate keys, the line in every error."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.yaml_file import check_strings, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-2e+3", -2000.0), ("1.5e3", 1500.0), (".5e1", 5.0), ("1.0e-4", 0.0001)],
)
def test_numbers_with_an_exponent_are_numbers(text: str, value: float) -> None:
    assert parse_yaml(f"lr: {text}", "conf.yaml") == {"lr": value}
    assert parse_yaml(f"lr: '{text}'", "conf.yaml") == {"lr": text}


@pytest.mark.parametrize("text", ["1e", "e5", "1e-3m", "utt1e5", "+", "."])
def test_other_words_stay_words(text: str) -> None:
    assert parse_yaml(f"word: {text}", "conf.yaml") == {"word": text}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "c.yaml:3: not valid YAML: duplicate key 'a', also in line 1; correct it"),
        ("a: [1\n", "c.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'; correct it"),
        ("a: 1\n\tb: 2\n", "c.yaml:2: not valid YAML: found character '\\t' that cannot start any token; correct it"),
        ("a: 2024-99-99\n", "c.yaml: a value cannot be read as YAML (month must be in 1..12); write it in quotes"),
        (
            "a: !!int x\n",
            "c.yaml: a value cannot be read as YAML (invalid literal for int() with base 10: 'x'); write it in quotes",
        ),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "c.yaml:1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'; correct it",
        ),
        ("[" * 20000, "c.yaml: brackets are nested too deeply; correct the YAML"),
        ("? [1, {a: 2}]\n: 1\n", "c.yaml:1: not valid YAML: found unhashable key; correct it"),
    ],
)
def test_yaml_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_yaml(text, "c.yaml")
    assert str(error.value) == message


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("word", "value"),
    [("NO", "False"), ("yes", "True"), ("on", "True"), ("01", "1"), ("null", "None"), ("1.5", "1.5"), ("1:30", "90")],
)
def test_a_word_that_yaml_replaces_is_named(word: str, value: str) -> None:
    for text, line in ((f"q:\n  labels: [a, {word}]\n", 2), (f"q: 'x'\n{word}: 'y'\n", 2)):
        with pytest.raises(InputError) as error:
            check_strings(text, "tasks.yaml")
        assert str(error.value) == (
            f'tasks.yaml:{line}: YAML reads {word} as {value}, not as a word; write it in quotes: "{word}"'
        )
    check_strings(f"q: '{word}'\nempty:\n", "tasks.yaml")


def test_a_file_is_read_by_the_gate_of_all_text(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path) == {"a": 1, "b": 2}
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(InputError, match=r"c\.yaml:2: byte 0xE9 is not UTF-8"):
        read_yaml(path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: a\n0x1: b\n", "c.yaml:2: not valid YAML: duplicate key '0x1', also in line 1; correct it"),
        ("yes: a\non: b\n", "c.yaml:2: not valid YAML: duplicate key 'on', also in line 1; correct it"),
        ('"a\\nb": 1\n"a\\nb": 2\n', "c.yaml:2: not valid YAML: duplicate key 'a\\nb', also in line 1; correct it"),
        ('a: "\\ud800"\n', "c.yaml:1: not valid YAML: one half of a surrogate pair is no character; correct it"),
    ],
)
def test_values_that_would_be_lost_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_yaml(text, "c.yaml")
    assert str(error.value) == message


def test_merge_keys_and_escaped_surrogate_pairs_are_read() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", "c.yaml")["b"] == {"x": 1, "y": 3}
    assert parse_yaml('a: "\\ud83d\\ude00"\n', "c.yaml") == {"a": "😀"}  # as JSON writes it


def test_a_file_that_pyyaml_wrote_is_read_as_it_was(tmp_path: Path) -> None:
    content = {"text": "1e-3", "number": 1e-3, "label": "NO"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    assert read_yaml(tmp_path / "c.yaml", dumped=True) == content


@pytest.mark.bad_input
def test_a_value_of_an_explicit_type_is_named() -> None:
    with pytest.raises(InputError) as error:
        check_strings("q: [!!null '{']\n", "tasks.yaml")
    assert str(error.value) == 'tasks.yaml:1: YAML reads { as None, not as a word; write it in quotes: "{"'
