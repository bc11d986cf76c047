"""Gate traces: the component gate over the frames of an utterance, recorded for figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.data.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from harmonifuse_espnet.inference.speech2text import Speech2Text

N_MELS = 40
LOGMEL_SHIFT = 0.02  # seconds from one frame of the spectrogram to the next
DB_PER_LOG = 10.0 / np.log(10.0)  # from the natural logarithm of a power to decibels


@dataclass(frozen=True)
class GateTrace:
    """The gate over the frames of one utterance; 1 is linguistic, 0 paralinguistic.

    Attributes:
        answer: Hypothesis: transcript or label.
        frame_shift: Seconds from one encoder frame to the next.
        mean: Mean over the channels by frame (T values).
        low: 10th percentile over the channels (T values).
        high: 90th percentile over the channels (T values).
        others: Other task -> mean for the same speech with a prompt of that task (T values).
        logmel: Log-mel spectrogram in whole decibels, a list of mel bins every ``LOGMEL_SHIFT`` seconds; empty if the
            input is dumped encoder layers.
    """

    utterance: str
    task: str
    prompt: str
    answer: str
    frame_shift: float
    mean: list[float]
    low: list[float]
    high: list[float]
    others: dict[str, list[float]]
    logmel: list[list[int]]


def trace_gate(
    model: Speech2Text,
    utterance: str,
    task: str,
    speech: np.ndarray,
    feats_type: str,
    answer: str,
    prompt: str | None = None,
) -> GateTrace | None:
    """Record the gate for one utterance, ``speech`` (N,) or (T, features); return None for a model without a gate.

    ``prompt`` replaces the first prompt of ``task``; the other tasks have their first prompt.
    """
    from harmonifuse_espnet.inference.inspection import component_gate

    prompts = {name: prompt if name == task else None for name in model.tasks}
    examples = {name: model.build_example(utterance, speech, name, text) for name, text in prompts.items()}
    gates = {name: gate for name, example in examples.items() if (gate := component_gate(model, example)) is not None}
    if task not in gates:
        return None
    low, high = np.percentile(gates[task], (10, 90), axis=1)
    means = {name: _rounded(gate.mean(1)) for name, gate in gates.items()}
    return GateTrace(
        utterance=utterance,
        task=task,
        prompt=model.tokenizer.decode(examples[task]["prompt"].tolist()),
        answer=answer,
        frame_shift=model.model.frontend.frame_shift,
        mean=means.pop(task),
        low=_rounded(low),
        high=_rounded(high),
        others=means,
        logmel=spectrogram(speech, feats_type),
    )


def read_gates(path: Path) -> list[GateTrace]:
    """Read ``gate.json`` of a decode folder: a trace for each task, [] if there is no such file (model without a gate).

    Raises:
        InputError: if the file is not valid.
    """
    if not path.is_file():
        return []
    traces = read_json(path, "run stage 7 again")
    try:
        return [_parse_trace(entry) for entry in traces]
    except TypeError as error:
        raise InputError(f"{path}: not a list of gate traces ({error}); run stage 7 again") from error


def _parse_trace(entry: Any) -> GateTrace:
    """Return the trace of an entry of ``gate.json``.

    Raises:
        TypeError: if it has other keys or types.
    """
    trace = GateTrace(**entry)
    texts = (trace.utterance, trace.task, trace.prompt, trace.answer, *trace.others)
    curves = [trace.mean, trace.low, trace.high, *dict(trace.others).values()]
    if not all(isinstance(text, str) for text in texts) or not _is_number(trace.frame_shift):
        raise TypeError("a text or the frame shift has another type")
    if not all(_is_curve(curve, len(trace.mean)) for curve in curves):
        raise TypeError("the mean, low, high and others must be numbers, equally many")
    if not all(_is_curve(frame, len(trace.logmel[0])) for frame in trace.logmel):
        raise TypeError("the log-mel spectrogram must be numbers, equally many in each frame")
    return trace


def _is_curve(values: Any, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def spectrogram(speech: np.ndarray, feats_type: str) -> list[list[int]]:
    """Return the log-mel spectrogram in whole decibels, a frame every ``LOGMEL_SHIFT`` seconds.

    ``speech`` (N,) or (T, features) -> T' x mel bins; empty for ``ssl``, whose dump holds an encoder's layers.
    """
    if feats_type == "ssl":
        return []
    if feats_type == "fbank":  # frames of 10 ms
        return np.rint(DB_PER_LOG * speech[::2]).astype(int).tolist()
    import torch

    from harmonifuse_espnet.data.logmel import LogMel

    logmel = LogMel(N_MELS, hop_length=round(LOGMEL_SHIFT * SAMPLE_RATE))
    frames = logmel(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))[0][0]
    return np.rint(DB_PER_LOG * frames.numpy()).astype(int).tolist()


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
