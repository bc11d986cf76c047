"""Resumable work: finished batches are kept, unless the settings have changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harmonifuse_espnet.common.resuming import file_fingerprint, process_resumably

IDS = ["a", "b", "c", "d", "e"]


class Work:
    """A function of a batch that is interrupted at an utterance."""

    def __init__(self, interrupted_at: str = "") -> None:
        self.interrupted_at, self.batches = interrupted_at, []

    def __call__(self, batch: Sequence[str]) -> list[dict[str, Any]]:
        if self.interrupted_at in batch:
            raise KeyboardInterrupt
        self.batches.append("".join(batch))
        return [{"upper": utterance.upper()} for utterance in batch]


def interrupt(path: Path) -> None:
    work = Work(interrupted_at="e")
    with pytest.raises(KeyboardInterrupt):
        process_resumably(path, {"model": 1}, IDS, 2, work)
    assert work.batches == ["ab", "cd"]


def test_finished_batches_are_kept_and_an_incomplete_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    interrupt(path)
    path.write_text(path.read_text()[:-3])
    work = Work()
    assert process_resumably(path, {"model": 1}, IDS, 2, work) == {key: {"upper": key.upper()} for key in IDS}
    assert work.batches == ["cd", "e"]


def test_other_settings_start_over(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    interrupt(path)
    work = Work()
    process_resumably(path, {"model": 2}, IDS, 2, work)
    assert work.batches == ["ab", "cd", "e"]


def test_another_file_has_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    missing = file_fingerprint(path)
    assert missing == {"file": str(path), "size": None, "mtime": None}
    path.write_text("one")
    assert file_fingerprint(path)["size"] == 3 and file_fingerprint(path) == file_fingerprint(path) != missing


@pytest.mark.parametrize(
    "line",
    [
        "[" * 5000,
        "[1]",
        "null",
        '{"upper": "A"}',
        '{"id": "a"}',
        '{"id": 1, "upper": "A"}',
        '{"id": ["a"]}',
        "\x00\x00",
    ],
)
def test_a_damaged_file_starts_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "partial.jsonl"
    path.write_text(f'{{"model": 1}}\n{line}\n{{"id": "b", "upper": "B"}}\n')
    work = Work()
    done = process_resumably(path, {"model": 1}, IDS, 2, work, {"upper"})
    assert work.batches == ["ab", "cd", "e"] and done == {key: {"upper": key.upper()} for key in IDS}
