"""Types of option values: numbers as people write them, ranges, and messages."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pytest

from harmonifuse_espnet.common.option_types import (
    Number,
    OptionType,
    OrNone,
    WholeNumber,
    mapping,
    size,
    structured,
    triple,
    yes_or_no,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (WholeNumber(), "3", 3),
        (WholeNumber(), "-3", -3),
        (WholeNumber(1), "1e6", 1_000_000),
        (WholeNumber(1), "1000000.0", 1_000_000),
        (WholeNumber(0, 1), "1", 1),
        (Number(), "1e-3", 0.001),
        (Number(0), "0", 0.0),
        (Number(0), "inf", math.inf),
        (OrNone(WholeNumber(1)), "none", None),
        (OrNone(WholeNumber(1)), "4", 4),
        (yes_or_no, "Yes", True),
        (yes_or_no, "0", False),
        (size, "80GB", 80_000_000_000),
        (triple, "a, b/wav.scp,speech,sound", ("a, b/wav.scp", "speech", "sound")),
        (triple, "valid, acc ,max", ("valid", "acc", "max")),
        (structured, "{lr: 1e-3}", {"lr": 0.001}),
        (structured, "[{match: x, lr: 1E-3}]", [{"match": "x", "lr": 0.001}]),
        (structured, "round_robin", "round_robin"),
        (mapping, "{repetition_penalty: 1e0}", {"repetition_penalty": 1.0}),
    ],
)
def test_values(kind: OptionType, text: str, value: Any) -> None:
    assert kind(text) == value and type(kind(text)) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (WholeNumber(), "x", "'x' is not a whole number; expected a number such as 3"),
        (WholeNumber(1), "x", "'x' is not a whole number; expected a number from 1"),
        (WholeNumber(1), "2.5", "'2.5' is not a whole number; expected a number from 1"),
        (WholeNumber(1), "inf", "'inf' is not a whole number; expected a number from 1"),
        (WholeNumber(1), "nan", "'nan' is not a whole number; expected a number from 1"),
        (WholeNumber(1), "true", "'true' is not a whole number; expected a number from 1"),
        (WholeNumber(1), "0", "0 is out of range; expected a whole number from 1"),
        (WholeNumber(0, 1), "2", "2 is out of range; expected a whole number from 0 to 1"),
        (Number(), "half", "'half' is not a number; expected a number such as 0.5"),
        (Number(0), "nan", "'nan' is not a number; expected a number from 0"),
        (Number(0), "-0.1", "-0.1 is out of range; expected a number from 0"),
        (Number(0, exclusive=True), "0", "0 is out of range; expected a number above 0"),
        (yes_or_no, "maybe", "'maybe' is not true or false"),
        (size, "big", "'big' is not a size; expected a number of bytes such as 80GB"),
        (triple, "wav.scp,sound", "'wav.scp,sound' is not three values separated by commas"),
        (mapping, "3", "'3' is not a mapping; expected '{key: value}'"),
        (mapping, "[1]", "'[1]' is not a mapping; expected '{key: value}'"),
        (structured, "{a: 1, a: 2}", "'{a: 1, a: 2}':1: not valid YAML: duplicate key 'a', also in line 1; correct it"),
    ],
)
def test_wrong_values(kind: OptionType, text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        kind(text)
    assert str(error.value) == message


def test_no_value_is_run_as_python() -> None:
    for text in ("{a: !!python/object/apply:os.getcwd []}", "!!python/name:os.system ''"):
        with pytest.raises(argparse.ArgumentTypeError, match="not valid YAML: could not determine a constructor"):
            structured(text)
