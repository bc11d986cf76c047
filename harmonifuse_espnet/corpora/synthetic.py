"""Made speech in the layouts of LibriSpeech and IEMOCAP, with the releases' traps: corpora to try recipes on.

Every chapter and dialog is complete where its folder exists: a second call needs to make only what is missing.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from harmonifuse_espnet.data.audio import SAMPLE_RATE

PAUSE = 0.4  # seconds between turns
IEMOCAP_FOLDERS = ("Attribute", "Categorical", "Self-evaluation")
CATEGORIES = {
    "ang": "Anger",
    "dis": "Disgust",
    "exc": "Excited",
    "fea": "Fear",
    "fru": "Frustration",
    "hap": "Happiness",
    "neu": "Neutral state",
    "oth": "Other",
    "sad": "Sadness",
    "sur": "Surprise",
    "xxx": "Other",
}


@dataclass(frozen=True)
class Reading:
    """A sentence that is read: words, samples (N,) at 16 kHz (None: an empty file)."""

    words: str
    samples: np.ndarray | None


@dataclass(frozen=True)
class Acting:
    """A turn of a dialog: who speaks (F or M), the words, the label as annotated, samples (N,) at 16 kHz or a wav."""

    sex: str
    words: str
    label: str
    sound: np.ndarray | Path


@dataclass(frozen=True)
class Reader:
    """A line of ``SPEAKERS.TXT``."""

    id: str
    sex: str
    subset: str
    minutes: float
    name: str


def chapter_folder(root: Path, subset: str, reader: str, chapter: str) -> Path:
    """Where a chapter lies."""
    return root / "LibriSpeech" / subset / reader / chapter


def dialog_folder(root: Path, dialog: str) -> Path:
    """Where a dialog's wavs lie."""
    return _session(root, dialog) / "sentences" / "wav" / dialog


def write_chapter(root: Path, subset: str, reader: str, chapter: str, readings: Iterable[Reading]) -> int:
    """Write a chapter as LibriSpeech does; returns its number of utterances."""
    final = chapter_folder(root, subset, reader, chapter)
    folder = _fresh(final)
    lines = []
    for number, reading in enumerate(readings):
        name = f"{reader}-{chapter}-{number:04d}"
        if reading.samples is None:
            (folder / f"{name}.flac").touch()
        else:
            soundfile.write(folder / f"{name}.flac", reading.samples, SAMPLE_RATE)
        lines.append(f"{name} {reading.words.upper()}")
    (folder / f"{reader}-{chapter}.trans.txt").write_text("\n".join(lines), encoding="utf-8")
    os.rename(folder, final)
    return len(lines)


def write_speakers(root: Path, title: str, readers: Iterable[Reader]) -> None:
    """``SPEAKERS.TXT`` with its comments; a name may have bars in it, as one of the release has."""
    lines = [f"; {title}", ";ID  |SEX| SUBSET           |MINUTES| NAME"]
    lines += [f"{row.id:<5}| {row.sex} | {row.subset:<17}| {row.minutes:<5.2f} | {row.name}" for row in readers]
    _write(root / "LibriSpeech" / "SPEAKERS.TXT", "\n".join(lines) + "\n")


def write_dialog(root: Path, dialog: str, turns: Iterable[Acting], newline: str = "\n") -> int:
    """Write a dialog as IEMOCAP does; returns its number of utterances."""
    final = dialog_folder(root, dialog)
    folder = _fresh(final)
    rows: list[tuple[str, float, float, Acting]] = []
    counts: Counter[str] = Counter()
    start = 1.0
    for turn in turns:
        name = f"{dialog}_{turn.sex}{counts[turn.sex]:03d}"
        counts[turn.sex] += 1
        end = start + _write_wav(folder / f"{name}.wav", turn.sound)
        rows.append((name, start, end, turn))
        start = end + PAUSE
    _leave_behind(folder, [name for name, *_ in rows])
    texts = {"transcriptions": _transcript(dialog, rows), "EmoEvaluation": _evaluation(rows)}
    for kind, text in texts.items():
        path = _session(root, dialog) / "dialog" / kind / f"{dialog}.txt"
        _write(path, "".join(f"{line}{newline}" for line in text))
        _write(path.with_name(f"._{path.name}"), "\0")
    for kind in IEMOCAP_FOLDERS:
        _write(_session(root, dialog) / "dialog" / "EmoEvaluation" / kind / f"{dialog}_e1.txt", f"{rows[0][0]} :;\n")
    os.rename(folder, final)
    return len(rows)


def _leave_behind(folder: Path, names: Sequence[str]) -> None:
    """A ``._`` file for each wav, as copies from a Macintosh leave behind."""
    first, *others = (folder / f"._{name}.wav" for name in names)
    first.write_bytes(b"\0\5\26\7")
    for path in others:
        _link(first, path)


def _write_wav(path: Path, sound: np.ndarray | Path) -> float:
    """Write samples, or give a wav another name; returns its seconds."""
    if isinstance(sound, Path):
        _link(sound, path)
        return float(soundfile.info(path).duration)
    soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_16")
    return len(sound) / SAMPLE_RATE


def _link(source: Path, path: Path) -> None:
    """A hard link, or a copy where the drive has no links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _session(root: Path, dialog: str) -> Path:
    return root / "IEMOCAP_full_release" / f"Session{int(dialog[3:5])}"


def _transcript(dialog: str, rows: Sequence[tuple[str, float, float, Acting]]) -> Iterator[str]:
    """Transcriptions, with a tag now and then, a bare line, and an id that has no wav."""
    for index, (name, start, end, turn) in enumerate(rows):
        words = f"{turn.words.capitalize()}."
        if index % 9 == 4:
            words = f"[LAUGHTER] {words} [BREATHING]"
        yield f"{name} [{start:08.4f}-{end:08.4f}]: {words}"
        if index % 12 == 0:
            yield f"{turn.sex}: [LAUGHTER]"
    yield f"{dialog}_FXX0 [{end:08.4f}-{end + 1:08.4f}]: Hm."


def _evaluation(rows: Sequence[tuple[str, float, float, Acting]]) -> Iterator[str]:
    """Evaluations with their raters' lines; a number is missing now and then."""
    yield "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    yield ""
    for index, (name, start, end, turn) in enumerate(rows):
        category = CATEGORIES[turn.label]
        yield f"[{start:.4f} - {end:.4f}]\t{name}\t{turn.label}\t[2.5000, 2.5000, 2.5000]"
        yield f"C-E2:\t{category};\t()"
        yield f"C-E3:\t{category}; Other;\t(unsure)" if turn.label == "xxx" else f"C-E3:\t{category};\t()"
        yield "A-E3:\tval 3; act 2; dom  ;\t()" if index % 10 == 3 else "A-E3:\tval 3; act 2; dom  2;\t()"
        yield ""


def _fresh(final: Path) -> Path:
    """An empty folder beside ``final``, under a name that no reader takes for it."""
    folder = final.with_name(f".{final.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.unfinished")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
