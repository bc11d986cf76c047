"""Collating utterances: padding, lengths, rows by task, and moving between processes and devices."""

from __future__ import annotations

import pickle

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import to_device
from tiny import arrays, batch, targets_of

from harmonifuse_espnet.data.batch import SpeechBatch, Targets, collate

EMPTY = np.zeros(0, np.int64)


def example(frames: int, task: int, **others: np.ndarray) -> dict[str, np.ndarray]:
    """Features of as many frames, all of the number of frames."""
    speech = np.full((frames, 2), frames, np.float32)
    return {"speech": speech, "prompt": np.array([5]), "task": np.array([task]), **others}


def test_collate_pads_with_zeros_and_gives_the_lengths() -> None:
    answer = {"text": np.array([7]), "ctc_text": EMPTY, "label": np.array([2])}
    other = {"text": np.array([8, 9]), "ctc_text": np.array([4, 5]), "label": np.array([-1])}
    ids, keywords = collate([("b", example(1, 1, **answer)), ("a", example(3, 0, **other))])
    data = keywords["batch"]
    assert ids == ["b", "a"] and list(keywords) == ["batch"]
    assert data.speech.tolist() == [[[1, 1], [0, 0], [0, 0]], [[3, 3], [3, 3], [3, 3]]]
    assert data.speech_lengths.tolist() == [1, 3]
    assert data.prompt.tolist() == [[5], [5]] and data.prompt_lengths.tolist() == [1, 1]
    assert data.task.tolist() == [1, 0]
    targets = targets_of(data)
    assert targets.tokens.tolist() == [[7, 0], [8, 9]] and targets.lengths.tolist() == [1, 2]
    assert targets.ctc_tokens.tolist() == [[0, 0], [4, 5]] and targets.ctc_lengths.tolist() == [0, 2]
    assert targets.label.tolist() == [2, -1]


def test_rows_of_each_task_are_in_the_order_of_their_indices() -> None:
    data = collate([(str(number), example(1, task)) for number, task in enumerate([2, 0, 2, 1, 0])])[1]["batch"]
    assert data.targets is None
    assert {task: rows.tolist() for task, rows in data.rows.items()} == {0: [1, 4], 1: [3], 2: [0, 2]}
    assert list(data.rows) == [0, 1, 2]


def test_selected_utterances_keep_their_arrays_and_have_rows_of_their_own() -> None:
    whole = batch((0, 1, 0))
    part = whole.select([2, 1])
    assert torch.equal(part.speech, whole.speech[[2, 1]]) and part.task.tolist() == [0, 1]
    assert torch.equal(targets_of(part).tokens, targets_of(whole).tokens[[2, 1]])
    assert {task: rows.tolist() for task, rows in part.rows.items()} == {0: [0], 1: [1]}
    assert list(whole.select([1]).rows) == [1]


def test_a_batch_moves_to_devices_and_processes_as_named_tuples_do() -> None:
    data = batch((0, 1, 0))
    moved = to_device(data, "meta")
    assert isinstance(moved, SpeechBatch) and isinstance(moved.targets, Targets)
    assert moved.speech.is_meta and moved.rows[0].is_meta and moved.targets.label.is_meta
    restored = pickle.loads(pickle.dumps(data))
    assert isinstance(restored, SpeechBatch) and torch.equal(restored.rows[0], data.rows[0])


def test_without_targets_there_are_none() -> None:
    examples = [{name: value for name, value in one.items() if name in example(1, 0)} for one in arrays()]
    assert collate([("u", one) for one in examples])[1]["batch"].targets is None
