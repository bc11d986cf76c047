"""Readers of plain text, csv and Kaldi tables."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from fuzzing.losses import lines_of, lost_count, lost_lines, lost_rows, visible
from fuzzing.reader import Reader, damaged
from harmonifuse_espnet.common.text import read_csv, read_lines, read_text
from harmonifuse_espnet.data.alignment import Word, read_ctm
from harmonifuse_espnet.data.datadir import Utterance, read_datadir, read_lengths, read_table
from harmonifuse_espnet.data.targets import Target, read_targets
from harmonifuse_espnet.data.tasks import build_tasks

TEXT = ("u1 DON'T GO\nu2 YES\nu3 CAFÉ  NOIR\n", "u-1\tA B\nu-2\t漢字 仮名\n")
UTTERANCES = {
    "text": "u1 GO ON\nu2 YES\nu3 ang\n",
    "utt2spk": "u1 s1\nu2 s1\nu3 s2\n",
    "utt2task": "u1 asr\nu2 asr\nu3 ser\n",
    "wav__scp": "u1 a/u1.wav\nu2 a/u 2.wav\nu3 a/u3.flac\n",
}
SEGMENTED = {
    **UTTERANCES,
    "wav__scp": "r1 a/r1.wav\nr2 a/r 2.wav\n",
    "segments": "u1 r1 0.0 1.25\nu2 r1 1.5 -1\nu3 r2 0 3\n",
}
CTM = (';; {"model": 1}\nu1 1 0.00 0.25 GO\nu1 1 0.25 0.5 ON\nu2 A 1.5 0.1 YES 0.97\n',)
ACTORS = ("ActorID,Sex\n1001,Male\n1002,Female\n", "Sex;ActorID\nMale;1\n Female ;2\n")
WIDE = ('ActorID,Age,Sex,Race\n1001,51,Male,"A, B"\n1002,21,Female,\n', "ActorID\tSex\tAge\n1\tMale\t5\n")
TASKS = build_tasks(
    {
        "asr": {"answer": "text", "prompts": ["WRITE"]},
        "ser": {"answer": "label", "labels": {"ang": "ANGRY", "sad": "SAD"}, "prompts": ["EMOTION"]},
    }
)


def _table_set(tables: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: (text,) for name, text in tables.items()}


def _lost_from_datadir(name: str, text: str, found: list[Utterance]) -> str:
    if name == "wav.scp" and any(utterance.segment for utterance in found):
        return ""  # a recording may have no segment
    values = {
        "text": lambda row: row.text,
        "utt2spk": lambda row: row.speaker,
        "utt2task": lambda row: row.task,
        "wav.scp": lambda row: row.audio,
    }
    if name in values:
        lines = sorted(visible(line) for line in lines_of(text))
        return lost_lines(lines, sorted(visible(row.id, values[name](row)) for row in found))
    return lost_count(len(lines_of(text)), len(found), "segments")


def _lost_words(name: str, text: str, found: dict[str, list[Word]]) -> str:
    lines = [line for line in lines_of(text) if not line.startswith(";;")]
    fields = [re.split(r"[ \t]+", line.strip(" \t")) for line in lines]
    rows = sorted((visible(utterance), visible(word)) for utterance, _, _, _, word, *_ in fields)
    return lost_lines(map("".join, rows), ["".join(row) for row in sorted(_word_rows(found))])


def _word_rows(found: dict[str, list[Word]]) -> list[tuple[str, str]]:
    return [(visible(utterance), visible(word.text)) for utterance, words in found.items() for word in words]


def _lost_targets(name: str, text: str, found: dict[str, Target]) -> str:
    return lost_count(len(lines_of(text)), len(found), "targets")


def _lost_lengths(name: str, text: str, found: dict[str, int]) -> str:
    return lost_lines(lines_of(text), (f"{key}{length}" for key, length in found.items()))


def _lost_csv_rows(name: str, text: str, rows: list[tuple[int, dict[str, str]]]) -> str:
    """Compare all characters if the columns are those that were read, else the number of rows."""
    header, *lines = lines_of(text)
    delimiter = next(each for each in ",;\t|" if each in header)
    fields = [field.strip(' "') for field in header.split(delimiter)]
    if sorted(fields) == ["ActorID", "Sex"]:
        ignored = str.maketrans("", "", f'{delimiter}" ')
        values = "".join(row[field] for _, row in rows for field in fields)
        return lost_lines([visible(*lines).translate(ignored)], [visible(values).translate(ignored)])
    expected = [row for row in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]
    return lost_count(len(expected), len(rows), "rows") if '"' not in text else ""


def _same(name: str, text: str, found: Any) -> str:
    return "" if found == text else f"{text!r} became {found!r}"


def _same_lines(name: str, text: str, found: list[tuple[int, str]]) -> str:
    return _same(name, str(list(enumerate(lines_of(text), start=1))), str(found))


def _read_actors(folder: Path) -> list[tuple[int, dict[str, str]]]:
    return list(read_csv(folder / "actors.csv", ["ActorID", "Sex"], "restore the file"))


def _lost_rows(name: str, text: str, found: dict[str, str]) -> str:
    return lost_rows(text, found)


READERS = {
    "common.text.read_text": Reader(damaged(text=TEXT), lambda folder: read_text(folder / "text"), _same),
    "common.text.read_lines": Reader(damaged(text=TEXT), lambda folder: list(read_lines(folder / "text")), _same_lines),
    "common.text.read_csv": Reader(damaged(actors__csv=(*ACTORS, *WIDE)), _read_actors, _lost_csv_rows),
    "data.datadir.read_table": Reader(damaged(text=TEXT), lambda folder: read_table(folder / "text"), _lost_rows),
    "data.datadir.read_table (allow_empty)": Reader(
        damaged(text=(*TEXT, "u1\nu2 A\n")), lambda folder: read_table(folder / "text", allow_empty=True), _lost_rows
    ),
    "data.datadir.read_lengths": Reader(
        damaged(utt2num_samples=("u1 16000\nu2 123\nu3 7\n",)),
        lambda folder: read_lengths(folder / "utt2num_samples"),
        _lost_lengths,
    ),
    "data.datadir.read_datadir": Reader(damaged(**_table_set(UTTERANCES)), read_datadir, _lost_from_datadir),
    "data.datadir.read_datadir (segments)": Reader(damaged(**_table_set(SEGMENTED)), read_datadir, _lost_from_datadir),
    "data.alignment.read_ctm": Reader(damaged(ctm=CTM), lambda folder: read_ctm(folder / "ctm"), _lost_words),
    "data.targets.read_targets": Reader(
        damaged(text=(UTTERANCES["text"],), utt2task=(UTTERANCES["utt2task"],)),
        lambda folder: read_targets(folder, TASKS),
        _lost_targets,
    ),
}
