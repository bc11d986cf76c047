"""Kaldi data folders: ``wav.scp``, ``text``, ``utt2spk``, ``spk2utt`` and ``utt2task``, sorted by id, UTF-8."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import write_files

TABLES = ("text", "utt2spk", "utt2task")


@dataclass(frozen=True)
class Utterance:
    """One utterance of a data folder.

    Attributes:
        id: Utterance id, without spaces or slashes; unique among all utterances of a training or test set.
        audio: Path of the audio file (or ``ark:offset`` in a dump folder).
        text: The target: the transcript for a text task, the label for a label task.
        speaker: Speaker id, without spaces or slashes.
        task: Name of the task in the table of tasks.
    """

    id: str
    audio: str
    text: str
    speaker: str
    task: str


def corpus_root(corpus_dir: str | Path, expected: str, remedy: str) -> Path:
    """Return the corpus folder as an absolute path; symbolic links are kept.

    Raises:
        MissingFileError: if it is not a folder, with the ``expected`` content and a ``remedy``.
    """
    root = Path(os.path.abspath(corpus_dir))
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such corpus folder; expected a folder with {expected}. {remedy}")
    return root


def write_datadir(out_dir: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a data folder atomically and return its number of utterances.

    Raises:
        InputError: if there are no utterances, an id is duplicate, or a value is invalid in a table.
        AccessError: if the folder cannot be written (read-only, disk full).
    """
    out_dir = Path(out_dir)
    rows = sorted(utterances, key=lambda utterance: utterance.id)
    _check(rows, out_dir)
    speakers: dict[str, list[str]] = {}
    for row in rows:
        speakers.setdefault(row.speaker, []).append(row.id)
    tables = {
        "text": [(row.id, row.text) for row in rows],
        "utt2spk": [(row.id, row.speaker) for row in rows],
        "spk2utt": [(speaker, " ".join(ids)) for speaker, ids in sorted(speakers.items())],
        "utt2task": [(row.id, row.task) for row in rows],
        "wav.scp": [(row.id, row.audio) for row in rows],
    }
    write_files(out_dir, {name: format_table(table) for name, table in tables.items()})
    return len(rows)


def format_table(rows: Iterable[tuple[str, str]]) -> str:
    """Return the lines of a two-column Kaldi table.

    Example:
        >>> format_table([("utt1", "ONE TWO")])
        'utt1 ONE TWO\\n'
    """
    return "".join(f"{key} {value}\n" for key, value in rows)


def read_table(path: str | Path, allow_empty: bool = False) -> dict[str, str]:
    """Read a two-column Kaldi table: a key, spaces or tabs, and the rest of the line.

    With ``allow_empty``, values may be empty, such as hypotheses.

    Raises:
        FileNotFoundError: if the file does not exist.
        InputError: on a line without a value or with a duplicate key (with file:line), or if it is not UTF-8.
    """
    table: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                key, *value = re.split(r"[ \t]+", line.strip(" \t\r\n"), maxsplit=1)
                if not value and not (allow_empty and key):
                    raise InputError(f"{path}:{number}: expected 'key value', got {line.rstrip()!r}")
                if key in table:
                    raise InputError(f"{path}:{number}: duplicate key '{key}'; remove one of its lines")
                table[key] = value[0] if value else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); convert it with iconv") from error
    return table


def read_datadir(path: str | Path, audio: str = "wav.scp") -> list[Utterance]:
    """Read a data folder; ``audio`` names the file that lists the audio or the features.

    Raises:
        MissingFileError: if one of the folder's files is missing.
        InputError: if an utterance is missing from one of the files.
    """
    path = Path(path)
    names = (audio, *TABLES)
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise MissingFileError(f"{path}: incomplete data folder, {', '.join(missing)} missing; prepare it again")
    tables = {name: read_table(path / name) for name in names}
    ids = set().union(*tables.values())
    for name, table in tables.items():
        absent = sorted(ids - set(table))
        if absent:
            other = next(other for other in names if absent[0] in tables[other])
            raise InputError(
                f"{path / name}: {len(absent)} of {len(ids)} utterances missing, first '{absent[0]}', "
                f"which is in {other}; prepare the folder again"
            )
    scp, text, speaker, task = tables.values()
    return [Utterance(key, scp[key], text[key], speaker[key], task[key]) for key in sorted(ids)]


def _check(rows: list[Utterance], out_dir: Path) -> None:
    if not rows:
        raise InputError(f"{out_dir}: no utterances to write; check the corpus folder and the options")
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous and previous.id == row.id:
            raise InputError(f"{out_dir}: duplicate utterance id '{row.id}': {previous.audio} and {row.audio}")
        for name, value in (("id", row.id), ("speaker", row.speaker), ("task", row.task)):
            if not value or re.search(r"\s|/", value):
                raise InputError(f"{out_dir}: {name} {value!r} of '{row.id}' is empty or contains a space or a slash")
        for name, value in (("text", row.text), ("audio path", row.audio)):
            if not value.strip() or value != value.strip() or re.search(r"[\r\n]", value):
                raise InputError(
                    f"{out_dir}: {name} {value!r} of '{row.id}' is empty, has a line break, or starts or ends with "
                    "a space"
                )


def check_same_ids(data_dir: Path, tables: dict[str, dict[str, str]]) -> None:
    """Check that tables of a folder have the same utterances.

    Raises:
        InputError: if an utterance of one table is missing from another.
    """
    for name, table in tables.items():
        for other, others in tables.items():
            absent = sorted(set(others) - set(table))
            if absent:
                raise InputError(
                    f"{data_dir / name}: {len(absent)} of the utterances of {other} missing, first '{absent[0]}'; "
                    "prepare the folder again"
                )
