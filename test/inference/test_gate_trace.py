"""Gate traces: mean and percentiles, spectrogram, and file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harmonifuse_espnet.inference import inspection
from harmonifuse_espnet.inference.gate_trace import read_gates, spectrogram, trace_gate

GATES = {"asr": np.array([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]]), "ser": np.array([[0.1, 0.1, 0.4], [0.0, 0.0, 0.0]])}


@pytest.fixture(autouse=True)
def gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the gates of :func:`model` instead of those of a network."""
    monkeypatch.setattr(inspection, "component_gate", lambda model, example: model.tasks[example["task"]])


def model(gates: dict[str, Any]) -> Any:
    """Make a stub of a model with a known gate for each task, two frames of three channels."""
    return SimpleNamespace(
        tasks=gates,
        build_example=lambda utterance, speech, task, prompt: {"prompt": np.array([len(prompt or task)]), "task": task},
        tokenizer=SimpleNamespace(decode=lambda ids: f"PROMPT {ids}"),
        model=SimpleNamespace(frontend=SimpleNamespace(frame_shift=0.04)),
    )


def test_a_trace_has_the_mean_and_percentiles_over_the_channels() -> None:
    trace = trace_gate(model(GATES), "u", "asr", np.zeros((4, 2), np.float32), "fbank", "ONE")
    assert trace is not None
    assert (trace.utterance, trace.task, trace.prompt, trace.answer) == ("u", "asr", "PROMPT [3]", "ONE")
    assert (trace.mean, trace.low, trace.high) == ([0.5, 0.2], [0.1, 0.2], [0.9, 0.2])  # 0, .5, 1 at 0, 50, 100 %
    assert trace.others == {"ser": [0.2, 0.0]} and trace.frame_shift == 0.04


def test_a_given_prompt_is_used_for_the_utterance_s_task_only() -> None:
    trace = trace_gate(model(GATES), "u", "asr", np.zeros((4, 2), np.float32), "fbank", "ONE", "SPELL IT")
    assert trace is not None and trace.prompt == "PROMPT [8]"


def test_a_model_without_a_gate_has_no_trace() -> None:
    assert trace_gate(model({"asr": None, "ser": None}), "u", "asr", np.zeros(800, np.float32), "raw", "ONE") is None


def test_the_spectrogram_is_in_decibels_with_a_frame_every_20_ms() -> None:
    samples = 0.01 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    quiet, loud = (np.array(spectrogram(gain * samples, "raw")) for gain in (1.0, 10.0))
    assert quiet.shape == (51, 40)
    assert np.abs(loud - quiet - 20).max() <= 1  # ten times the amplitude, rounded twice
    dumped = np.log([[1.0, 10.0], [5.0, 5.0], [100.0, 1e-6]])
    assert spectrogram(dumped, "fbank") == [[0, 10], [20, -60]]  # every other frame of 10 ms
    assert spectrogram(dumped, "ssl") == []  # the dump holds encoder layers


def test_traces_are_read_from_the_file_as_written(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    assert read_gates(path) == []
    trace = trace_gate(model(GATES), "u", "ser", np.zeros((4, 2), np.float32), "fbank", "ang")
    assert trace is not None
    path.write_text(json.dumps([asdict(trace)]))
    assert read_gates(path) == [trace]
    path.write_text('[{"utterance": "u"}]')
    with pytest.raises(ValueError, match=r"gate.json: not a list of gate traces .*; run stage 7 again"):
        read_gates(path)


ENTRY = {
    **{"utterance": "u", "task": "ser", "prompt": "WHO", "answer": "ang", "frame_shift": 0.04},
    **{"mean": [0.5, 0.2], "low": [0.1, 0.0], "high": [1, 0.9], "others": {"asr": [0.2, 0.1]}, "logmel": [[1], [0]]},
}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": None}, "a text or the frame shift has another type"),
        ({"frame_shift": "0.04"}, "a text or the frame shift has another type"),
        ({"mean": [0.5, "0.2"]}, "the mean, low, high and others must be numbers, equally many"),
        ({"low": [0.1]}, "the mean, low, high and others must be numbers, equally many"),
        ({"others": {"asr": 1}}, "the mean, low, high and others must be numbers, equally many"),
        ({"logmel": [[1], [0, 2]]}, "the log-mel spectrogram must be numbers, equally many in each frame"),
    ],
)
def test_a_trace_of_other_types_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps([ENTRY]))
    assert len(read_gates(path)) == 1
    path.write_text(json.dumps([ENTRY | change]))
    with pytest.raises(ValueError) as error:
        read_gates(path)
    assert str(error.value) == f"{path}: not a list of gate traces ({reason}); run stage 7 again"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", ":1: not valid JSON: Expecting value; run stage 7 again"),
        ("1", ": not a list of gate traces ('int' object is not iterable); run stage 7 again"),
        ("[NaN]", ": NaN is not a finite number; run stage 7 again"),
    ],
)
def test_a_file_that_has_no_traces_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        read_gates(path)
    assert str(error.value) == f"{path}{message}"
