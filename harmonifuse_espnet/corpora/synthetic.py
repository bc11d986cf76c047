"""Write synthetic corpora in the layouts of LibriSpeech and IEMOCAP, with the irregularities of the releases.

Folders of chapters and dialogs are renamed when complete, so that a second call needs to write only the missing ones.
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

from harmonifuse_espnet.common.files import atomic_path
from harmonifuse_espnet.data.audio import SAMPLE_RATE

PAUSE_SECONDS = 0.4  # between turns
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
class ReadSentence:
    """A sentence of read speech: words, and samples (N,) at 16 kHz, or None for an empty file."""

    words: str
    samples: np.ndarray | None


@dataclass(frozen=True)
class ActedTurn:
    """A turn of a dialog.

    Attributes:
        sex: Speaker, F or M.
        words: Transcript.
        label: Emotion label.
        audio: Samples (N,) at 16 kHz, or a wav file.
    """

    sex: str
    words: str
    label: str
    audio: np.ndarray | Path


@dataclass(frozen=True)
class SpeakerInfo:
    """A line of ``SPEAKERS.TXT``."""

    id: str
    sex: str
    subset: str
    minutes: float
    name: str


Row = tuple[str, float, float, ActedTurn]  # id, start and end in seconds, turn


def chapter_folder(root: Path, subset: str, reader: str, chapter: str) -> Path:
    """Return the folder of a chapter."""
    return root / "LibriSpeech" / subset / reader / chapter


def dialog_folder(root: Path, dialog: str) -> Path:
    """Return the folder of a dialog's wavs."""
    return _session(root, dialog) / "sentences" / "wav" / dialog


def write_chapter(root: Path, subset: str, reader: str, chapter: str, sentences: Iterable[ReadSentence]) -> int:
    """Write a chapter in LibriSpeech's layout; return its number of utterances."""
    final = chapter_folder(root, subset, reader, chapter)
    folder = _temporary_folder(final)
    lines = []
    for number, sentence in enumerate(sentences):
        name = f"{reader}-{chapter}-{number:04d}"
        if sentence.samples is None:
            (folder / f"{name}.flac").touch()
        else:
            soundfile.write(folder / f"{name}.flac", sentence.samples, SAMPLE_RATE)
        lines.append(f"{name} {sentence.words.upper()}")
    (folder / f"{reader}-{chapter}.trans.txt").write_text("\n".join(lines), encoding="utf-8")
    os.rename(folder, final)
    return len(lines)


def write_speakers(root: Path, title: str, speakers: Iterable[SpeakerInfo]) -> None:
    """Write ``SPEAKERS.TXT`` with its comments; a name may contain bars, as one in the release does."""
    lines = [f"; {title}", ";ID  |SEX| SUBSET           |MINUTES| NAME"]
    lines += [f"{row.id:<5}| {row.sex} | {row.subset:<17}| {row.minutes:<5.2f} | {row.name}" for row in speakers]
    _write(root / "LibriSpeech" / "SPEAKERS.TXT", "\n".join(lines) + "\n")


def write_dialog(root: Path, dialog: str, turns: Iterable[ActedTurn], newline: str = "\n") -> int:
    """Write a dialog in IEMOCAP's layout; return its number of utterances."""
    final = dialog_folder(root, dialog)
    folder = _temporary_folder(final)
    rows: list[Row] = []
    counts: Counter[str] = Counter()
    start = 1.0
    for turn in turns:
        name = f"{dialog}_{turn.sex}{counts[turn.sex]:03d}"
        counts[turn.sex] += 1
        end = start + _write_wav(folder / f"{name}.wav", turn.audio)
        rows.append((name, start, end, turn))
        start = end + PAUSE_SECONDS
    _write_hidden_files(folder, [name for name, *_ in rows])
    files = {"transcriptions": _transcript_lines(dialog, rows), "EmoEvaluation": _evaluation_lines(rows)}
    for kind, lines in files.items():
        path = _session(root, dialog) / "dialog" / kind / f"{dialog}.txt"
        _write(path, "".join(f"{line}{newline}" for line in lines))
        _write(path.with_name(f"._{path.name}"), "\0")
    for kind in IEMOCAP_FOLDERS:
        _write(_session(root, dialog) / "dialog" / "EmoEvaluation" / kind / f"{dialog}_e1.txt", f"{rows[0][0]} :;\n")
    os.rename(folder, final)
    return len(rows)


def _write_hidden_files(folder: Path, names: Sequence[str]) -> None:
    """Write a ``._`` file for each wav, as macOS does when it copies files to other systems."""
    first, *others = (folder / f"._{name}.wav" for name in names)
    first.write_bytes(b"\0\5\26\7")
    for path in others:
        _link(first, path)


def _write_wav(path: Path, audio: np.ndarray | Path) -> float:
    """Write samples, or link a wav file; return the duration in seconds."""
    if isinstance(audio, Path):
        _link(audio, path)
        return float(soundfile.info(path).duration)
    soundfile.write(path, audio, SAMPLE_RATE, subtype="PCM_16")
    return len(audio) / SAMPLE_RATE


def _link(source: Path, path: Path) -> None:
    """Create a hard link, or a copy if the file system has no hard links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _session(root: Path, dialog: str) -> Path:
    return root / "IEMOCAP_full_release" / f"Session{int(dialog[3:5])}"


def _transcript_lines(dialog: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield transcripts, some with tags; also lines without an id, and an id without a wav."""
    for index, (name, start, end, turn) in enumerate(rows):
        words = f"{turn.words.capitalize()}."
        if index % 9 == 4:
            words = f"[LAUGHTER] {words} [BREATHING]"
        yield f"{name} [{start:08.4f}-{end:08.4f}]: {words}"
        if index % 12 == 0:
            yield f"{turn.sex}: [LAUGHTER]"
    yield f"{dialog}_FXX0 [{end:08.4f}-{end + 1:08.4f}]: Hm."


def _evaluation_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the label of each turn and the lines of its raters, some without a number."""
    yield "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    yield ""
    for index, (name, start, end, turn) in enumerate(rows):
        category = CATEGORIES[turn.label]
        yield f"[{start:.4f} - {end:.4f}]\t{name}\t{turn.label}\t[2.5000, 2.5000, 2.5000]"
        yield f"C-E2:\t{category};\t()"
        yield f"C-E3:\t{category}; Other;\t(unsure)" if turn.label == "xxx" else f"C-E3:\t{category};\t()"
        yield "A-E3:\tval 3; act 2; dom  ;\t()" if index % 10 == 3 else "A-E3:\tval 3; act 2; dom  2;\t()"
        yield ""


def _temporary_folder(final: Path) -> Path:
    """Create an empty folder beside ``final``, hidden from the corpus readers."""
    folder = final.with_name(f".{final.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
