"""The table of tasks: valid entries, and errors that name the invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TABLE

from harmonifuse_espnet.data.tasks import build_tasks, load_tasks

LABELLED = {"answer": "label", "labels": {"f": "WOMAN", "m": "MAN"}, "prompts": ["WHO"]}


def test_indices_follow_the_order_of_the_table() -> None:
    tasks = build_tasks({"ser": TABLE["ser"], "asr": TABLE["asr"]})
    assert [(task.name, task.index, task.answer) for task in tasks.values()] == [
        ("ser", 0, "label"),
        ("asr", 1, "text"),
    ]
    assert tasks["asr"].prompts == ("TRANSCRIBE", "WRITE IT DOWN")


def test_a_label_has_the_text_of_the_table_and_a_transcript_is_unchanged() -> None:
    tasks = build_tasks({**TABLE, "gender": {**LABELLED, "labels": ["f", "m"]}})
    assert tasks["ser"].target_text("neu") == "NEUTRAL"
    assert tasks["gender"].target_text("f") == "f"
    assert tasks["asr"].target_text("neu") == "neu"


def test_prompts_may_be_held_out() -> None:
    tasks = build_tasks({**TABLE, "gender": {**LABELLED, "held_out_prompts": ["MAN OR WOMAN"]}})
    assert (tasks["gender"].prompts, tasks["gender"].held_out_prompts) == (("WHO",), ("MAN OR WOMAN",))
    assert tasks["asr"].held_out_prompts == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("WHO", "task 'gender' must be a mapping with answer and prompts, got 'WHO'"),
        ({**LABELLED, "prompts": []}, "task 'gender' has no prompts; add at least one wording"),
        ({**LABELLED, "prompts": ["WHO", " "]}, "task 'gender' has no prompts"),
        ({"answer": "text"}, "task 'gender' has no prompts"),
        ({**LABELLED, "answer": "number"}, "task 'gender' has answer: 'number'; expected text or label"),
        ({"prompts": ["WHO"]}, "task 'gender' has answer: None"),
        ({**LABELLED, "lables": {}}, r"task 'gender' has unknown keys \['lables'\]; expected answer, held_out"),
        (
            {**LABELLED, "held_out_prompts": ["WHO"]},
            "task 'gender' has the held-out prompt 'WHO', which is one of its prompts",
        ),
        ({**LABELLED, "held_out_prompts": ["MAN OR WOMAN", " "]}, "has the held-out prompt '', which is empty"),
        ({**LABELLED, "labels": ["f"]}, "task 'gender' has answer: label and 1 labels; add at least two"),
        ({"answer": "label", "prompts": ["WHO"]}, "and 0 labels; add at least two"),
        ({**LABELLED, "labels": {"f": "ONE", "m": "ONE"}}, "task 'gender' has two labels with the same text"),
    ],
)
def test_invalid_entries_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_tasks({**TABLE, "gender": entry})


@pytest.mark.parametrize("table", [{}, [], None, "asr"])
def test_a_table_that_is_not_a_mapping_is_refused(table: Any) -> None:
    with pytest.raises(ValueError, match="the table of tasks must be a mapping of task names, got"):
        build_tasks(table)


def test_invalid_targets_are_refused_with_their_place() -> None:
    tasks = build_tasks(TABLE)
    with pytest.raises(ValueError, match=r"utt7: unknown label 'fear' for task 'ser', which has ang, neu, sad; corr"):
        tasks["ser"].target_text("fear", where="utt7")
    for task in tasks.values():
        with pytest.raises(ValueError, match=f"utt7: empty target for task '{task.name}'"):
            task.target_text("  ", where="utt7")


def test_loading_returns_the_plain_table_and_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(yaml.safe_dump(TABLE))
    assert load_tasks(path) == TABLE
    path.write_text("asr: {answer: text}\n")
    with pytest.raises(ValueError, match=r"tasks.yaml: task 'asr' has no prompts"):
        load_tasks(path)
    path.write_text("asr: {answer: [text\n")
    with pytest.raises(ValueError, match=r"tasks.yaml:2: not valid YAML: expected ',' or '\]', but got"):
        load_tasks(path)
    with pytest.raises(FileNotFoundError, match="absent.yaml"):
        load_tasks(tmp_path / "absent.yaml")
