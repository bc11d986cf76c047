"""Arrays given to ``Speech2Text`` that are refused, each with its whole message."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.inference.speech2text import check_samples

SHAPE = "speech must be samples (N,) with N > 0, got shape {}; mix channels down"
TYPE = "speech: samples of type {}, expected int16, int32 or uint8 (full scale), or floating-point numbers in [-1, 1]"
LEVEL = "speech has floating-point samples up to 20000, expected [-1, 1]; divide 16-bit samples by 32768"
FINITE = "speech: 1 of {} samples are NaN or infinite, the first at {} s; restore the file or remove the utterance"
CASES: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "two channels": (lambda: np.zeros((2, 100)), SHAPE.format("(2, 100)")),
    "two columns": (lambda: np.zeros((100, 2)), SHAPE.format("(100, 2)")),
    "empty": (lambda: np.zeros(0), SHAPE.format("(0,)")),
    "one number": (lambda: np.array(0.5), SHAPE.format("()")),
    "int64": (lambda: np.zeros(9, np.int64), TYPE.format("int64")),
    "int8": (lambda: np.zeros(9, np.int8), TYPE.format("int8")),
    "uint16": (lambda: np.zeros(9, np.uint16), TYPE.format("uint16")),
    "complex": (lambda: np.zeros(9, complex), TYPE.format("complex128")),
    "truth values": (lambda: np.zeros(9, bool), TYPE.format("bool")),
    "texts": (lambda: np.array(["a"]), TYPE.format("<U1")),
    "objects": (lambda: np.array([0.5, None]), TYPE.format("object")),
    "nan": (lambda: np.array([0, np.nan]), FINITE.format(2, "0.000")),
    "infinity": (lambda: np.append(np.zeros(1600), -np.inf), FINITE.format(1601, "0.100")),
    "not scaled": (lambda: np.array([0.0, 20000.0, -3.0]), LEVEL),
    "not scaled, negative": (lambda: np.array([0.0, -20000.0], np.float32), LEVEL),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", CASES)
def test_a_bad_array_is_refused_with_the_reason(name: str) -> None:
    make, message = CASES[name]
    with pytest.raises(InputError) as error:
        check_samples(make())
    assert str(error.value) == message
