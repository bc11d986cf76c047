"""The figure of the gate: values on the axes of time, frequency and gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harmonifuse_espnet.evaluation.plots import draw_gates
from harmonifuse_espnet.inference.gate_trace import GateTrace, spectrogram

OUT = Path("unused.png")
SECOND = np.arange(16000, dtype=np.float32) / 16000


def trace(samples: np.ndarray = SECOND) -> GateTrace:
    """A gate that opens over 25 frames of 40 ms."""
    mean = [frame / 25 for frame in range(25)]
    low, high = [0.5 * value for value in mean], [min(1.0, 2 * value) for value in mean]
    other = {"ser": [0.1] * 25}
    return GateTrace("u1", "asr", "WRITE", "ONE TWO", 0.04, mean, low, high, other, spectrogram(samples, "raw"))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_ylabel(): axes for axes in figure.axes}


@pytest.mark.parametrize("hertz", [500, 1000, 2000, 4000])
def test_a_tone_is_drawn_at_its_frequency(drawn: list[Figure], hertz: int) -> None:
    draw_gates([trace(0.5 * np.sin(2 * np.pi * hertz * SECOND))], "title", OUT)
    axes = panels(drawn[0])["frequency (kHz)"]
    ticks = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    loudest = int(axes.images[0].get_array().mean(1).argmax())
    assert abs(ticks[f"{hertz / 1000:g}"] - loudest) < 0.75  # bins


def test_a_click_is_drawn_at_its_time(drawn: list[Figure]) -> None:
    click = np.zeros(16000, np.float32)
    click[round(0.4 * 16000)] = 1.0
    draw_gates([trace(click)], "title", OUT)
    axes = panels(drawn[0])["frequency (kHz)"]
    left, right, _, _ = axes.images[0].get_extent()
    frame = int(axes.images[0].get_array().mean(0).argmax())
    count = axes.images[0].get_array().shape[1]
    assert left + (frame + 0.5) * (right - left) / count == pytest.approx(0.4)
    assert axes.images[0].get_array().max() == 0  # decibels below the loudest


def test_the_gate_runs_from_paralinguistic_to_linguistic_over_seconds(drawn: list[Figure]) -> None:
    draw_gates([trace()], "title", OUT)
    axes = panels(drawn[0])["gate"]
    ticks = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert ticks == {"0 paralinguistic": 0, "0.5": 0.5, "1 linguistic": 1} and axes.get_ylim() == (0, 1)
    own, other = axes.lines
    np.testing.assert_allclose(own.get_xydata(), [[0.04 * frame, frame / 25] for frame in range(25)])
    assert set(other.get_ydata()) == {0.1} and own.get_color() != other.get_color()
    labels = ["mean over channels, task asr", "mean over channels, same speech, task ser"]
    assert [own.get_label(), other.get_label()] == labels
    assert axes.get_xlabel() == "time (s)" and axes.get_xlim() == (0, pytest.approx(0.96))


def test_the_caption_has_prompt_and_hypothesis_and_a_long_one_is_shortened(
    drawn: list[Figure], inside: Callable[[Figure], bool]
) -> None:
    long = replace(trace(), utterance="u2", answer="WORD " * 100)
    draw_gates([trace(), long, replace(trace(), logmel=[])], "title", OUT)
    captions = [part.get_suptitle() for part in drawn[0].subfigs]
    assert captions[0] == "asr, utterance u1\nprompt: WRITE\nhypothesis: ONE TWO"
    assert captions[1].endswith("WORD …") and inside(drawn[0])
    labels = [[axes.get_ylabel() for axes in part.axes] for part in drawn[0].subfigs]
    assert labels == [["frequency (kHz)", "gate", "level (dB)"]] * 2 + [["gate"]]
