"""Batches of each task by ESPnet's samplers, with options by task."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tiny import GENDER, TABLE

from harmonifuse_espnet.data.schedule import BalancedBatches, TaskBatches
from harmonifuse_espnet.data.task_batches import build_task_batches, check_utterances
from harmonifuse_espnet.data.tasks import build_tasks

A, S = "asr", "ser"


@pytest.fixture
def shapes(tmp_path: Path) -> list[str]:
    """Speech and text shapes of six utterances of each task."""
    lengths = [(f"{task}{k}", 100 * (k + 1)) for k in range(6) for task in "as"]
    (tmp_path / "speech_shape").write_text("".join(f"{key} {size}\n" for key, size in lengths))
    (tmp_path / "text_shape").write_text("".join(f"{key} 3,10\n" for key, _ in lengths))
    return [str(tmp_path / name) for name in ("speech_shape", "text_shape")]


UTT2TASK = {f"{task[0]}{k}": task for k in range(6) for task in (A, S)}


def batch_by_task(
    shapes: list[str],
    options: dict[str, Any],
    per_task: dict[str, Any] | None = None,
    utt2task: dict[str, str] | None = None,
    table: dict[str, Any] = TABLE,
    text_file: str = "text",
) -> dict[str, TaskBatches]:
    return build_task_batches(utt2task or UTT2TASK, shapes, options, per_task or {}, 0, build_tasks(table), text_file)


def sampler(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "batch_size": 3, "batch_bins": 1500, "sort_batch": "ascending", **more}


@pytest.mark.parametrize("kind", ["sorted", "numel", "folded", "unsorted"])
def test_espnet_s_samplers_batch_each_task_by_itself(kind: str, shapes: list[str]) -> None:
    options = sampler(kind, fold_lengths=[1000, 100] if kind == "folded" else [])
    streams = batch_by_task(shapes, options)
    for task, stream in streams.items():
        assert sorted(u for batch in stream.batches for u in batch) == [f"{task[0]}{k}" for k in range(6)]
        assert stream.shuffle_window == (kind == "unsorted")
    sizes = {batch[0]: len(batch) for batch in streams[A].batches}
    assert sizes == ({"a3": 4, "a5": 2} if kind == "numel" else dict.fromkeys(sizes, 3))


def test_a_task_may_have_its_own_type_and_size_of_batches(shapes: list[str]) -> None:
    streams = batch_by_task(shapes, sampler("sorted"), {S: {"type": "unsorted", "batch_size": 2}})
    assert [len(batch) for batch in streams[S].batches] == [2, 2, 2] and streams[S].shuffle_window
    assert sorted(streams[A].batches) == [("a2", "a1", "a0"), ("a5", "a4", "a3")] and not streams[A].shuffle_window
    assert streams[A].seed != streams[S].seed


def test_a_task_may_have_its_own_shuffle_window(shapes: list[str]) -> None:
    own: dict[str, Any] = {A: {"shuffle_window": 0.5}, S: {"type": "unsorted", "shuffle_window": 0}}
    streams = batch_by_task(shapes, sampler("sorted"), own)
    assert (streams[A].shuffle_window, streams[S].shuffle_window) == (0.5, 0)
    assert len({frozenset(batch) for batch in streams[A].take(0, 40)}) > 2
    assert len({frozenset(batch) for batch in streams[S].take(0, 40)}) == 2
    with pytest.raises(
        ValueError, match="task_batches: task 'asr': shuffle_window is 2, expected a fraction from 0 to"
    ):
        batch_by_task(shapes, sampler("sorted"), {A: {"shuffle_window": 2}})


def test_redraw_is_the_old_name_of_shuffle_window(shapes: list[str], caplog: pytest.LogCaptureFixture) -> None:
    new = batch_by_task(shapes, sampler("sorted"), {A: {"shuffle_window": 0.5}})
    with caplog.at_level(logging.WARNING):
        old = batch_by_task(shapes, sampler("sorted"), {A: {"redraw": 0.5}})
    assert old[A].take(0, 40) == new[A].take(0, 40) != batch_by_task(shapes, sampler("sorted"))[A].take(0, 40)
    (message,) = caplog.messages
    assert message.startswith(
        "task_batches: redraw is now called shuffle_window; version 0.3 will not accept the old name"
    )
    with pytest.raises(ValueError, match="task_batches has both shuffle_window and its old name redraw; remove redraw"):
        batch_by_task(shapes, sampler("sorted"), {A: {"redraw": 0.5, "shuffle_window": 0.5}})


def test_utterances_without_a_task_and_tasks_without_utterances_are_named(shapes: list[str]) -> None:
    incomplete = {key: task for key, task in UTT2TASK.items() if key not in ("a3", "s4")}
    with pytest.raises(ValueError, match="speech_shape: 2 utterances missing from utt2task, first a3"):
        batch_by_task(shapes, sampler("sorted"), utt2task=incomplete)
    with pytest.raises(ValueError, match=r"task_batches has \['age'\], but the data have only \['asr', 'ser'\]"):
        batch_by_task(shapes, sampler("sorted"), {"age": {"batch_size": 2}})
    with pytest.raises(ValueError, match=r"utt2task has the tasks \['ser'\], the table of tasks has \['asr'\]"):
        batch_by_task(shapes, sampler("sorted"), table={A: TABLE[A]})


def test_tasks_are_in_the_order_of_the_table(shapes: list[str]) -> None:
    table = {S: TABLE[S], "gender": GENDER, A: TABLE[A]}
    assert list(batch_by_task(shapes, sampler("sorted"), table=table)) == [S, A]


def test_batches_of_a_label_task_may_be_balanced(shapes: list[str], tmp_path: Path) -> None:
    labels = dict(zip([f"s{k}" for k in range(6)], ["ang", "neu", "neu", "neu", "neu", "sad"], strict=True))
    text = tmp_path / "text"
    text.write_text("".join(f"{key} {labels.get(key, 'ONE')}\n" for key in UTT2TASK))
    balanced = {S: {"type": "unsorted", "balanced": True}}
    streams = batch_by_task(shapes, sampler("sorted"), balanced, text_file=str(text))
    assert type(streams[S]) is BalancedBatches and type(streams[A]) is TaskBatches
    for batch in streams[S].take(0, 20):
        assert sorted(labels[member] for member in batch) == ["ang", "neu", "sad"]
    assert sorted(u for batch in streams[S].batches for u in batch) == sorted(labels)  # validation: each utterance once
    text.write_text("s0 ang\ns1 neu\n")
    with pytest.raises(ValueError, match="text: 4 utterances of task 'ser' missing, first s2"):
        batch_by_task(shapes, sampler("sorted"), balanced, text_file=str(text))


def test_batches_that_cannot_be_balanced_are_refused(shapes: list[str]) -> None:
    with pytest.raises(
        ValueError, match="task 'asr' has balanced: true, but answer: text, which has no labels; remove"
    ):
        batch_by_task(shapes, sampler("unsorted"), {A: {"balanced": True}})
    with pytest.raises(ValueError, match="task 'ser' has balanced: true and type: sorted, but .* use type: unsorted"):
        batch_by_task(shapes, sampler("sorted"), {S: {"balanced": True}})
    with pytest.raises(
        ValueError, match=r"task 'ser' has balanced: true and shuffle_window: 0\.1, but .* remove shuff"
    ):
        batch_by_task(shapes, sampler("unsorted"), {S: {"balanced": True, "shuffle_window": 0.1}})


def test_tables_and_shape_files_must_have_the_same_utterances(shapes: list[str]) -> None:
    speech, text = shapes
    check_utterances({"utt2task": UTT2TASK}, shapes)
    with pytest.raises(ValueError) as error:
        check_utterances({"utt2task": [*UTT2TASK, "b9", "b8"]}, shapes)
    assert str(error.value) == (
        f"utt2task has 14 utterances, but {speech} has 12: 'b8' is missing from {speech}; run stage 5 again"
    )
    with pytest.raises(ValueError) as error:
        check_utterances({"utt2task": [key for key in UTT2TASK if key != "a3"]}, shapes)
    assert str(error.value) == (
        f"utt2task has 11 utterances, but {speech} has 12: 'a3' is missing from utt2task; run stage 5 again"
    )
    Path(text).write_text("".join(Path(text).read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError) as error:
        check_utterances({"utt2task": UTT2TASK}, shapes)
    assert (
        str(error.value)
        == f"{text} has 11 utterances, but {speech} has 12: 'a0' is missing from {text}; run stage 5 again"
    )
