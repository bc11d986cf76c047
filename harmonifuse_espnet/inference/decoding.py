"""Decoding of a test set: tables, prompts, batches by length, gate traces, and the files of the decode folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.experiment import RUN, DecodeDir, format_run
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.resuming import longest_first, process_resumably
from harmonifuse_espnet.data.audio import SAMPLE_RATE, audio_stat, read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, format_table, read_lengths, read_table
from harmonifuse_espnet.data.provenance import check_sources
from harmonifuse_espnet.data.speech_table import read_features
from harmonifuse_espnet.inference.gate_trace import GateTrace, trace_gate

if TYPE_CHECKING:
    from harmonifuse_espnet.data.tasks import Tasks
    from harmonifuse_espnet.inference.speech2text import Speech2Text

PARTIAL = "answers.partial.jsonl"
PROMPTS = ("trained", "held_out")
FEATS_TYPES = {"raw": "wav.scp", "fbank": "feats.scp", "ssl": "feats.scp"}  # contents of a dump folder -> its table


@dataclass(frozen=True)
class DecodeData:
    """Tables of a dump folder to decode; all have the same utterance ids.

    Attributes:
        speech: Location of the audio, or of the features.
        tasks: Name of the task.
        feats_type: ``raw``, ``fbank`` or ``ssl``.
    """

    speech: Mapping[str, str]
    num_samples: Mapping[str, int]
    tasks: Mapping[str, str]
    feats_type: str

    @property
    def by_length(self) -> list[str]:
        """Utterance ids in the order of length, the longest first."""
        return longest_first(self.num_samples)

    def fingerprint(self) -> str:
        """Return a hash of the tables, and of the size and time of each file of audio or features."""
        rows = [(key, at, *audio_stat(at), self.num_samples[key], self.tasks[key]) for key, at in self.speech.items()]
        return hashlib.sha256(json.dumps([self.feats_type, rows]).encode()).hexdigest()

    def load(self, key: str) -> np.ndarray:
        """Read the speech of an utterance: samples (N,) or features (T, features)."""
        if self.feats_type == "raw":
            return read_audio(self.speech[key], SAMPLE_RATE)[0]
        return read_features(self.speech[key])


def read_decode_data(data_dir: Path, feats_type: str) -> DecodeData:
    """Read the tables of a dump folder of stage 2, or of a feature folder of stage 3.

    Raises:
        MissingFileError: if a table is missing.
        InputError: if an utterance is missing from a table, a length is not a positive integer, or the data that the
            folder was made from have changed.
    """
    check_sources(data_dir, "run that stage again: ./run.sh --stage 2")
    tables = {name: read_table(data_dir / name) for name in (FEATS_TYPES[feats_type], "utt2num_samples", "utt2task")}
    check_same_ids(data_dir, tables)
    speech, _, tasks = tables.values()
    return DecodeData(speech, read_lengths(data_dir / "utt2num_samples"), tasks, feats_type)


def choose_prompts(prompts: str, utt2task: Mapping[str, str], tasks: Tasks, train_config: str) -> dict[str, str]:
    """Return utterance id -> prompt; {} for ``trained``, where every utterance has the first prompt of its task.

    With ``held_out``, the held-out prompts of a task are used in rotation over its sorted utterances.

    Args:
        prompts: ``trained`` or ``held_out``.
        utt2task: Utterance id -> name of the task.
        tasks: Table of tasks of the model.
        train_config: Configuration of the model, for error messages.

    Raises:
        InputError: if ``prompts`` has another value, or a task has no held-out prompts.
    """
    if prompts not in PROMPTS:
        raise InputError(f"--prompts is '{prompts}', but must be one of: {', '.join(PROMPTS)}")
    if prompts == "trained":
        return {}
    for name in sorted(set(utt2task.values())):
        if name not in tasks or not tasks[name].held_out_prompts:
            raise InputError(
                f"{train_config}: task '{name}' has no held_out_prompts, which --prompts held_out needs; add prompts "
                "that training has not used to this file and to conf/tasks.yaml"
            )
    rotation = {name: cycle(task.held_out_prompts) for name, task in tasks.items()}
    return {key: next(rotation[utt2task[key]]) for key in sorted(utt2task)}


def decode(
    model: Speech2Text,
    data: DecodeData,
    out_dir: Path,
    prompts: Mapping[str, str],
    batch_size: int,
    settings: Mapping[str, Any],
) -> dict[str, float]:
    """Decode a test set and write its decode folder. An interrupted call is resumed after its last complete batch.

    Args:
        model: Trained model.
        data: Tables of the test set.
        out_dir: Decode folder.
        prompts: Utterance id -> prompt, for utterances that do not have the first prompt of their task.
        batch_size: Utterances in a batch; the results do not depend on it.
        settings: Model file and options, recorded as ``decoded_with`` with the fingerprint of the data. Results of an
            interrupted call with other settings or data are discarded.

    Returns:
        ``audio_seconds``, ``seconds`` (time of the model) and the real-time factor ``rtf = seconds / audio_seconds``.

    Raises:
        AccessError: if the folder cannot be written.
    """
    settings = {**settings, "data": data.fingerprint()}

    def decode_batch(batch: Sequence[str]) -> list[dict[str, Any]]:
        examples = [(key, model.build_example(key, data.load(key), data.tasks[key], prompts.get(key))) for key in batch]
        return _decode_batch(model, examples)

    done = process_resumably(out_dir / PARTIAL, settings, data.by_length, batch_size, decode_batch)
    results = {key: done[key] for key in data.speech}
    gates = _trace_gates(model, data, prompts, results)
    speed = _speed(results, data.num_samples)
    run = {"decoded_with": dict(settings), **_describe(model, data), **speed}
    write_files(out_dir, _contents(DecodeDir(out_dir), results, gates, run))
    (out_dir / PARTIAL).unlink()
    return speed


def _decode_batch(model: Speech2Text, examples: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """Return the results for a batch of examples; ``seconds`` is the time of the model divided by the batch size."""
    from harmonifuse_espnet.data.batch import collate

    _, keywords = collate(examples)
    start = time.perf_counter()
    results = model.decode_batch(**keywords)
    seconds = (time.perf_counter() - start) / len(examples)
    return [{**asdict(result), "seconds": seconds} for result in results]


def _trace_gates(
    model: Speech2Text, data: DecodeData, prompts: Mapping[str, str], results: Mapping[str, Mapping[str, Any]]
) -> list[GateTrace]:
    """Record the gate in the utterance of median length of each task; [] for a model without a gate."""
    by_task: dict[str, list[str]] = {}
    for key in data.by_length:
        by_task.setdefault(data.tasks[key], []).append(key)
    median = {task: keys[len(keys) // 2] for task, keys in sorted(by_task.items())}
    traces = [
        trace_gate(model, key, task, data.load(key), data.feats_type, _one_line(results[key]["text"]), prompts.get(key))
        for task, key in median.items()
    ]
    return [trace for trace in traces if trace is not None]


def _speed(results: Mapping[str, Mapping[str, Any]], num_samples: Mapping[str, int]) -> dict[str, float]:
    audio = sum(num_samples[key] for key in results) / SAMPLE_RATE
    seconds = sum(result["seconds"] for result in results.values())
    return {"audio_seconds": round(audio, 2), "seconds": round(seconds, 2), "rtf": round(seconds / audio, 4)}


def _describe(model: Speech2Text, data: DecodeData) -> dict[str, Any]:
    """Return the parameter counts, and the layer weights of each task by prompt."""
    from harmonifuse_espnet.inference.inspection import layer_weights_by_prompt, parameter_counts

    tasks = sorted(set(data.tasks.values()))
    return {**parameter_counts(model.model), "tasks": {task: layer_weights_by_prompt(model, task) for task in tasks}}


def _contents(
    folder: DecodeDir,
    results: Mapping[str, Mapping[str, Any]],
    gates: Sequence[GateTrace],
    run: Mapping[str, Any],
) -> dict[str, str]:
    """Return the files of the decode folder, name -> content, ``text`` last; those without content are left out."""
    ctc = {key: result["ctc_text"] for key, result in results.items() if result["ctc_text"] is not None}
    probs = {key: result["label_probs"] for key, result in results.items() if result["label_probs"]}
    contents = {RUN: format_run(run)}
    if ctc:
        contents[folder.ctc_text.name] = format_table((key, _one_line(text)) for key, text in ctc.items())
    if probs:
        rows = (json.dumps({"id": key, "probs": row}) + "\n" for key, row in probs.items())
        contents[folder.label_probs.name] = "".join(rows)
    if gates:
        contents[folder.gates.name] = json.dumps([asdict(gate) for gate in gates]) + "\n"
    text = format_table((key, _one_line(result["text"])) for key, result in results.items())
    return {**contents, folder.text.name: text}


def _one_line(text: str) -> str:
    """Replace line breaks and repeated spaces by one space: a table has one line for each utterance."""
    return " ".join(text.split())
