"""The fuzzing benchmark: it finds crashes and drops, and all readers pass it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bench import main
from fuzzing import readers
from fuzzing.losses import lost_rows
from fuzzing.reader import Reader, damaged

from harmonifuse_espnet.common.errors import InputError


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "fuzz", "--seed", "1", *words])
    main()


def test_every_reader_refuses_or_keeps_what_it_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--inputs", "200")
    title, header, *rows, total = capsys.readouterr().out.splitlines()
    assert title == f"200 inputs for each of {len(readers.READERS)} readers, seed 1"
    assert len(rows) == len(readers.READERS) >= 34 and header.split()[:4] == ["reader", "inputs", "refused", "accepted"]
    for row in rows:
        inputs, refused, accepted, crashes, drops = map(int, row[40:].split()[:5])
        assert inputs == refused + accepted == 200 and accepted > 0 and crashes == drops == 0
    assert total.split()[:2] == ["total", str(200 * len(readers.READERS))]


def naive(folder: Path) -> dict[str, str]:
    """Read a table as many scripts do: the result lacks duplicates and blank lines."""
    lines = (folder / "text").read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line.strip())


def unclear(folder: Path) -> dict[str, str]:
    try:
        return naive(folder)
    except ValueError as error:
        raise InputError("the table is not valid") from error


@pytest.mark.parametrize(("read", "kinds"), [(naive, {"crash", "drop"}), (unclear, {"crash", "drop"})])
def test_crashes_drops_and_errors_without_a_file_are_found(
    read: Any, kinds: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Reader(damaged(text=("u1 GO\nu2 YES\n",)), read, lambda name, text, found: lost_rows(text, found))
    monkeypatch.setattr(readers, "READERS", {"naive": reader})
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--inputs", "500")
    output = capsys.readouterr().out
    assert ended.value.code == 1
    assert set(re.findall(r"^    (crash|drop): text = b", output, re.MULTILINE)) == kinds


def test_an_unknown_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--readers nothing: no such reader; there are common.text.read_text, "):
        run(monkeypatch, "--readers", "nothing")
