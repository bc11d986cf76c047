"""A folder knows what it was made from, and a changed source is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.provenance import MADE_FROM, check_sources, checksum, format_sources


def utterance(name: str) -> Utterance:
    return Utterance(name, f"/{name}.wav", "YES", "s", "asr")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A dump folder that was made from ``data``."""
    write_datadir(tmp_path / "data", [utterance("a")])
    write_datadir(tmp_path / "dump", [utterance("a")])
    (tmp_path / "dump" / MADE_FROM).write_text(format_sources([tmp_path / "data"]))
    return tmp_path / "dump"


@pytest.mark.bad_input
def test_an_utterance_that_was_added_is_noticed(dump: Path) -> None:
    check_sources(dump, "run stage 2")
    data = dump.parent / "data"
    before = checksum(data)
    write_datadir(data, [utterance("a"), utterance("b")])
    with pytest.raises(ValueError) as error:
        check_sources(dump, "run stage 2")
    assert str(error.value) == (
        f"{dump} was made from {data} with 1 utterances, checksum {before}, which now has 2 utterances, checksum "
        f"{checksum(data)}; run stage 2"
    )


def test_a_change_of_the_sources_of_the_source_is_noticed(dump: Path) -> None:
    stats = dump.parent / "stats"
    stats.mkdir()
    (stats / MADE_FROM).write_text(format_sources([dump]))
    check_sources(stats, "run stage 5")
    write_datadir(dump.parent / "data", [utterance("b")])
    with pytest.raises(ValueError) as error:
        check_sources(stats, "run stage 5")
    assert str(error.value).endswith(f"; run the stage that makes {dump} again, then run stage 5")


def test_a_removed_source_and_a_folder_without_a_record_are_not_checked(dump: Path) -> None:
    for path in (dump.parent / "data").iterdir():
        path.unlink()
    (dump.parent / "data").rmdir()
    check_sources(dump, "run stage 2")
    (dump / MADE_FROM).unlink()
    check_sources(dump, "run stage 2")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ":1: not valid JSON: Expecting property name enclosed in double quotes"),
        ("[1]", ": not the record of a stage: [1]"),
        ('{"data": {}}', ": not the record of a stage: 'data' has {}"),
        ('{"data": 1}', ": not the record of a stage: 'data' has 1"),
        ('{"": {"checksum": "12"}}', ": not the record of a stage: '' has {'checksum': '12'}"),
        ('{"data": {"checksum": null}}', ": not the record of a stage: 'data' has {'checksum': None}"),
    ],
)
def test_a_damaged_record_is_named(dump: Path, content: str, message: str) -> None:
    (dump / MADE_FROM).write_text(content)
    with pytest.raises(ValueError) as error:
        check_sources(dump, "run stage 2")
    assert str(error.value) == f"{dump}/made_from.json{message}; run stage 2"


@pytest.mark.bad_input
def test_a_folder_that_was_made_from_itself_is_named(dump: Path) -> None:
    (dump / MADE_FROM).write_text(format_sources([dump]))
    with pytest.raises(ValueError) as error:
        check_sources(dump, "run stage 2")
    assert str(error.value) == f"{dump}/made_from.json: the folder {dump} was made from itself; run stage 2"


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bpe.model").write_bytes(b"1")
    assert checksum(tmp_path / "one") == checksum(tmp_path / "two")
    (tmp_path / "two" / ".bpe.model.host-1.tmp").touch()
    assert checksum(tmp_path / "one") == checksum(tmp_path / "two")
    (tmp_path / "two" / "bpe.model").write_bytes(b"2")
    assert checksum(tmp_path / "one") != checksum(tmp_path / "two")
    assert checksum(tmp_path / "none") == "missing"
