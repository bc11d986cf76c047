"""Score files that are refused, each with its whole message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.evaluation.scores import read_scores, read_utterance_scores
from harmonifuse_espnet.evaluation.scoring import check_label_probs

TEXT = {"id": "u1", "speaker": "s1", "task": "asr", "kind": "llm", "errors": 1, "words": 2}
LABEL = {"id": "u2", "speaker": "s2", "task": "ser", "kind": "llm", "label": "ang", "correct": True}
SER = build_tasks({"ser": {"answer": "label", "labels": ["ang", "sad"], "prompts": ["WHO"]}})["ser"]


def write(path: Path, *entries: Any) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_the_scores_of_utterances_are_read_as_written(tmp_path: Path) -> None:
    rows = [{**TEXT, "char_errors": 2, "characters": 5}, LABEL, {**TEXT, "kind": "ctc"}]
    assert read_utterance_scores(write(tmp_path / "utterances.jsonl", *rows)) == rows


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "entry",
    [
        {**TEXT, "errors": -1},
        {**TEXT, "words": 2.5},
        {**TEXT, "words": True},
        {**TEXT, "label": "ang"},
        {**LABEL, "correct": 1},
        {**LABEL, "label": None},
        {**LABEL, "task": 5},
        {"id": "u1", "speaker": "s1"},
    ],
    ids=str,
)
def test_a_line_that_is_no_score_is_named(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write(tmp_path / "utterances.jsonl", LABEL, entry)
    with pytest.raises(InputError) as error:
        read_utterance_scores(path)
    shown = repr(entry) if len(repr(entry)) <= 100 else f"{repr(entry)[:100]}..."
    assert str(error.value) == f"{path}:2: not the score of an utterance: {shown}; run stage 8 again"


@pytest.mark.bad_input
def test_a_duplicate_utterance_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "utterances.jsonl", TEXT, LABEL, TEXT)
    with pytest.raises(InputError) as error:
        read_utterance_scores(path)
    assert str(error.value) == f"{path}:3: duplicate utterance 'u1'; run stage 8 again"


@pytest.mark.bad_input
def test_scores_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "utterances.jsonl", {key: TEXT[key] for key in TEXT if key != "speaker"})
    with pytest.raises(InputError) as error:
        read_utterance_scores(path)
    assert str(error.value) == (
        f"{path}: utterance 'u1' has no speaker, so an earlier version wrote these scores; run stage 8 again (./run.sh "
        "--stage 8 --stop_stage 8, with the run's --tag, --inference_tag, --test_sets and --results)"
    )


@pytest.mark.bad_input
def test_layer_weights_of_another_type_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "decode_best" / "test"
    folder.mkdir(parents=True)
    (folder / "score.json").write_text('{"tasks": {}}')
    (folder / "run.json").write_text('{"tasks": {"asr": [0.5]}}')
    with pytest.raises(InputError) as error:
        read_scores(tmp_path)
    assert str(error.value) == (
        f"{folder}/run.json: 'tasks' must be the layer weights by task, got {{'asr': [0.5]}}; run stage 7 again"
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "entry",
    [
        {"id": "u1"},
        {"id": 1, "probs": {}},
        {"id": "u1", "probs": [0.5, 0.5]},
        {"id": "u1", "probs": {"ang": "0.5", "sad": 0.5}},
        {"id": "u1", "probs": {"ang": True, "sad": 0}},
        {"id": "u1", "probs": {}, "more": 1},
    ],
    ids=str,
)
def test_a_line_that_has_no_probabilities_is_named(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write(tmp_path / "label_probs.jsonl", entry)
    with pytest.raises(InputError) as error:
        check_label_probs(path, {"u1": SER}, {"u1": "ang"})
    assert (
        str(error.value) == f'{path}:1: expected {{"id": ..., "probs": {{label: number}}}}, got {entry}; decode again'
    )
