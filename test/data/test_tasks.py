"""A task is an entry of a table, and an entry that cannot work is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TABLE

from harmonifuse_espnet.data.tasks import build_tasks, load_tasks

LABELLED = {"answer": "label", "labels": {"f": "WOMAN", "m": "MAN"}, "prompts": ["WHO"]}


def test_the_table_s_order_gives_the_indices() -> None:
    tasks = build_tasks({"ser": TABLE["ser"], "asr": TABLE["asr"]})
    assert [(task.name, task.index, task.answer) for task in tasks.values()] == [
        ("ser", 0, "label"),
        ("asr", 1, "text"),
    ]
    assert tasks["asr"].prompts == ("TRANSCRIBE", "WRITE IT DOWN")


def test_a_label_is_said_in_the_table_s_words_and_a_text_as_it_is() -> None:
    tasks = build_tasks({**TABLE, "gender": {**LABELLED, "labels": ["f", "m"]}})
    assert tasks["ser"].words("neu") == "NEUTRAL"
    assert tasks["gender"].words("f") == "f"
    assert tasks["asr"].words("neu") == "neu"


def test_wordings_may_be_held_out() -> None:
    tasks = build_tasks({**TABLE, "gender": {**LABELLED, "held_out_prompts": ["MAN OR WOMAN"]}})
    assert (tasks["gender"].prompts, tasks["gender"].held_out_prompts) == (("WHO",), ("MAN OR WOMAN",))
    assert tasks["asr"].held_out_prompts == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("WHO", "task 'gender' must be a mapping with answer and prompts, got 'WHO'"),
        ({**LABELLED, "prompts": []}, "task 'gender' has no prompts; give at least one wording"),
        ({**LABELLED, "prompts": ["WHO", " "]}, "task 'gender' has no prompts"),
        ({"answer": "text"}, "task 'gender' has no prompts"),
        ({**LABELLED, "answer": "number"}, "task 'gender' has answer kind 'number'; known are text, label"),
        ({"prompts": ["WHO"]}, "task 'gender' has answer kind None"),
        ({**LABELLED, "lables": {}}, r"task 'gender' has unknown keys \['lables'\]; known are answer, held_out"),
        ({**LABELLED, "held_out_prompts": ["WHO"]}, "task 'gender' holds out the wording 'WHO', which is trained; rew"),
        ({**LABELLED, "held_out_prompts": ["MAN OR WOMAN", " "]}, "holds out the wording ' ', which is empty"),
        ({**LABELLED, "labels": ["f"]}, "task 'gender' answers with a label but lists 1; give at least two"),
        ({"answer": "label", "prompts": ["WHO"]}, "lists 0; give at least two"),
        ({**LABELLED, "labels": {"f": "ONE", "m": "ONE"}}, "task 'gender' has labels that say the same words"),
    ],
)
def test_an_entry_that_cannot_work_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_tasks({**TABLE, "gender": entry})


@pytest.mark.parametrize("table", [{}, [], None, "asr"])
def test_a_table_that_is_none_is_refused(table: Any) -> None:
    with pytest.raises(ValueError, match="the table of tasks must be a mapping of task names, got"):
        build_tasks(table)


def test_answers_that_cannot_be_are_refused_with_their_place() -> None:
    tasks = build_tasks(TABLE)
    with pytest.raises(ValueError, match=r"utt7: unknown label 'fear' for task 'ser', which knows ang, neu, sad; corr"):
        tasks["ser"].words("fear", where="utt7")
    for task in tasks.values():
        with pytest.raises(ValueError, match=f"utt7: empty answer for task '{task.name}'"):
            task.words("  ", where="utt7")


def test_loading_gives_the_plain_table_and_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(yaml.safe_dump(TABLE))
    assert load_tasks(path) == TABLE
    path.write_text("asr: {answer: text}\n")
    with pytest.raises(ValueError, match=r"tasks.yaml: task 'asr' has no prompts"):
        load_tasks(path)
    path.write_text("asr: {answer: [text\n")
    with pytest.raises(ValueError, match=r"tasks.yaml: while parsing a flow"):
        load_tasks(path)
    with pytest.raises(FileNotFoundError, match="absent.yaml"):
        load_tasks(tmp_path / "absent.yaml")
