"""Kaldi data folders: ``wav.scp``, ``text``, ``utt2spk``, ``spk2utt`` and ``utt2task``, sorted by id, UTF-8."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.text import (
    check_name,
    code_points,
    find_twin,
    normalize_text,
    parse_decimal,
    quote,
    read_lines,
)

TABLES = ("text", "utt2spk", "utt2task")
SEGMENTS = "segments"
REMEDY = "run the stage that creates this file"
_LENGTH = re.compile(r"[1-9][0-9]{0,14}")
_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[!-.0-~]{1,200}")  # fast path of check_name


@dataclass(frozen=True)
class Utterance:
    """One utterance of a data folder.

    Attributes:
        id: Utterance id, see :func:`harmonifuse_espnet.common.text.check_name`; unique among all utterances of a
            training or test set.
        audio: Path of the audio file (or ``ark:offset`` in a dump folder).
        text: The target: the transcript for a text task, the label for a label task.
        speaker: Speaker id.
        task: Name of the task in the table of tasks.
        segment: Start and end of the utterance in ``audio`` in seconds, as in Kaldi's ``segments``; an end of -1 is the
            end of the audio. None if it is all of ``audio``.
    """

    id: str
    audio: str
    text: str
    speaker: str
    task: str
    segment: tuple[float, float] | None = None


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

    Texts are normalised by :func:`harmonifuse_espnet.common.text.normalize_text`.

    Raises:
        InputError: if there are no utterances, an id is duplicate, or a value is invalid in a table.
        AccessError: if the folder cannot be written (read-only, disk full).
    """
    out_dir = Path(out_dir)
    where = f"{out_dir}: text of '%s'"
    rows = sorted(utterances, key=lambda utterance: utterance.id)
    rows = [replace(row, text=normalize_text(row.text, where % row.id)) for row in rows]
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
        MissingFileError: if the file does not exist.
        InputError: on a line without a value, with a duplicate key or with a key that cannot be a name (with
            file:line), or if it is not UTF-8.
    """
    table: dict[str, str] = {}
    for number, line in read_lines(path, REMEDY):
        key, *value = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        if not value and not (allow_empty and key):
            raise InputError(f"{path}:{number}: expected 'key value', got {quote(line.rstrip())}; correct the line")
        if not _PLAIN_NAME.fullmatch(key):
            check_name(key, f"{path}:{number}")
        if key in table:
            raise InputError(f"{path}:{number}: duplicate key '{key}'; remove one of its lines")
        table[key] = value[0] if value else ""
    return table


def read_lengths(path: str | Path) -> dict[str, int]:
    """Read a table of lengths in samples or frames, such as ``utt2num_samples``.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if a length is not a positive integer.
    """
    lengths = read_table(path)
    for key, length in lengths.items():
        if not _LENGTH.fullmatch(length):
            raise InputError(
                f"{path}: '{key}' has the length {quote(length)}, expected a positive integer; {REMEDY} again"
            )
    return {key: int(length) for key, length in lengths.items()}


def read_datadir(path: str | Path, audio: str = "wav.scp") -> list[Utterance]:
    """Read a data folder; ``audio`` names the file that lists the audio or the features.

    With a file ``segments`` (utterance, recording, start and end in seconds), ``wav.scp`` lists recordings.

    Raises:
        MissingFileError: if one of the folder's files is missing.
        InputError: if an utterance is missing from one of the files, or a segment is invalid.
    """
    path = Path(path)
    names = (audio, *TABLES)
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise MissingFileError(f"{path}: incomplete data folder, {', '.join(missing)} missing; prepare it again")
    tables = {name: read_table(path / name) for name in names}
    segments: dict[str, tuple[float, float]] = {}
    if audio == "wav.scp" and (path / SEGMENTS).is_file():
        tables[audio], segments = _read_segments(path / SEGMENTS, tables[audio])
    ids = set().union(*tables.values())
    for name, table in tables.items():
        absent = sorted(ids - set(table))
        if absent:
            file = path / (SEGMENTS if segments and name == audio else name)
            other = next(other for other in names if absent[0] in tables[other])
            raise InputError(
                f"{file}: {len(absent)} of {len(ids)} utterances missing, first {_describe(absent[0], table)}, "
                f"which is in {other}; prepare the folder again"
            )
    scp, text, speaker, task = tables.values()
    return [Utterance(key, scp[key], text[key], speaker[key], task[key], segments.get(key)) for key in sorted(ids)]


def _read_segments(path: Path, recordings: dict[str, str]) -> tuple[dict[str, str], dict[str, tuple[float, float]]]:
    """Read Kaldi's ``segments``; return the audio, and the start and end, of each utterance."""
    audio, segments = {}, {}
    for utterance, value in read_table(path).items():
        try:
            recording, start_field, end_field = re.split(r"[ \t]+", value)
            start, end = parse_decimal(start_field), parse_decimal(end_field)
        except ValueError as error:
            raise InputError(
                f"{path}: '{utterance}' has {quote(value)}, expected a recording, and a start and an end in seconds"
            ) from error
        if start < 0 or not (end == -1 or start < end):
            raise InputError(
                f"{path}: '{utterance}' is from {start_field} s to {end_field} s; expected 0 <= start < end, or an end "
                "of -1 for the end of the recording"
            )
        if recording not in recordings:
            raise InputError(
                f"{path}: the recording {_describe(recording, recordings)} of '{utterance}' is not in wav.scp; add it "
                "there, or remove the segment"
            )
        audio[utterance], segments[utterance] = recordings[recording], (start, end)
    return audio, segments


def _describe(name: str, others: Iterable[str]) -> str:
    """Return an id in quotes; if another id looks the same, with the code points of both."""
    twin = None if name.isascii() else find_twin(name, others)
    return quote(name) if twin is None else f"'{name}' ({code_points(name)}; the file has {code_points(twin)})"


def _check(rows: list[Utterance], out_dir: Path) -> None:
    if not rows:
        raise InputError(f"{out_dir}: no utterances to write; check the corpus folder and the options")
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous and previous.id == row.id:
            raise InputError(f"{out_dir}: duplicate utterance id '{row.id}': {previous.audio} and {row.audio}")
        for name, value in (("id", row.id), ("speaker", row.speaker), ("task", row.task)):
            if not _PLAIN_NAME.fullmatch(value):
                check_name(value, f"{out_dir}: {name} of '{row.id}'")
        if not row.text:
            raise InputError(f"{out_dir}: the text of '{row.id}' is empty; add it or remove the utterance")
        if not row.audio or row.audio != row.audio.strip() or re.search(r"[\r\n]", row.audio):
            raise InputError(
                f"{out_dir}: audio path {row.audio!r} of '{row.id}' is empty, has a line break, or starts or ends with "
                "a space; rename the file"
            )
    forms: dict[str, str] = {}
    for row in rows:
        twin = row.id if row.id.isascii() else forms.setdefault(unicodedata.normalize("NFC", row.id), row.id)
        if twin != row.id:
            raise InputError(
                f"{out_dir}: the utterance ids {code_points(twin)} and {code_points(row.id)} both look like '{twin}'; "
                "rename one"
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
                    f"{data_dir / name}: {len(absent)} of the utterances of {other} missing, first "
                    f"{_describe(absent[0], table)}; prepare the folder again"
                )
