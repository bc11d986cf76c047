"""Write chapters and dialogs as LibriSpeech and IEMOCAP lay them out, with the releases' traps."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from plan import Chapter, Dialog
from voices import EMOTIONS, SAMPLE_RATE, Speaker, perform

IEMOCAP_FOLDERS = ("Attribute", "Categorical", "Self-evaluation")
CATEGORIES = {"ang": "Anger", "exc": "Excited", "fru": "Frustration", "hap": "Happiness", "neu": "Neutral state"}
CATEGORIES |= {"sad": "Sadness", "xxx": "Other"}
PAUSE = 0.4
FEMALE = ("Alicia", "Annie", "belinda", "linda", "steph")


def chapter_folder(root: Path, chapter: Chapter) -> Path:
    """Where a chapter lies; it is complete where it exists."""
    return root / "LibriSpeech" / chapter.subset / chapter.reader / chapter.chapter


def dialog_folder(root: Path, dialog: Dialog) -> Path:
    """Where a dialog's wavs lie; the dialog is complete where it exists."""
    return _session(root, dialog) / "sentences" / "wav" / dialog.name


def write_chapter(root: Path, chapter: Chapter) -> int:
    """Speak and write a chapter; returns its number of utterances."""
    speaker = Speaker()
    final = chapter_folder(root, chapter)
    folder = _fresh(final)
    lines = []
    for number, sentence in enumerate(chapter.sentences):
        name = f"{chapter.reader}-{chapter.chapter}-{number:04d}"
        soundfile.write(folder / f"{name}.flac", speaker.say(chapter.voice, sentence), SAMPLE_RATE)
        lines.append(f"{name} {sentence.upper()}")
    (folder / f"{chapter.reader}-{chapter.chapter}.trans.txt").write_text("\n".join(lines), encoding="utf-8")
    os.rename(folder, final)
    return len(lines)


def write_dialog(root: Path, dialog: Dialog, seed: int) -> int:
    """Act and write a dialog; returns its number of utterances."""
    speaker = Speaker()
    key = [seed, *dialog.name.encode()]
    generator = np.random.default_rng(key)
    final = dialog_folder(root, dialog)
    folder = _fresh(final)
    turns: list[tuple[str, float, float]] = []
    counts: Counter[str] = Counter()
    start = 1.0
    for line in dialog.lines:
        name = f"{dialog.name}_{line.sex}{counts[line.sex]:03d}"
        counts[line.sex] += 1
        samples = speaker.act(dialog.voices[line.sex], line.sentence, perform(EMOTIONS[line.emotion], generator))
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
        (folder / f"._{name}.wav").write_bytes(b"\0\5\26\7")  # as copies from a Macintosh leave behind
        end = start + len(samples) / SAMPLE_RATE
        turns.append((name, start, end))
        start = end + PAUSE
    newline = "\r\n" if random.Random(str(key)).random() < 0.5 else "\n"
    texts = {"transcriptions": _transcript(dialog, turns), "EmoEvaluation": _evaluation(dialog, turns)}
    for kind, text in texts.items():
        path = _session(root, dialog) / "dialog" / kind / f"{dialog.name}.txt"
        _write(path, "".join(f"{line}{newline}" for line in text))
        _write(path.with_name(f"._{path.name}"), "\0")
    for kind in IEMOCAP_FOLDERS:
        _write(
            _session(root, dialog) / "dialog" / "EmoEvaluation" / kind / f"{dialog.name}_e1.txt", f"{turns[0][0]} :;\n"
        )
    os.rename(folder, final)
    return len(turns)


def write_speakers(root: Path, chapters: Sequence[Chapter]) -> None:
    """``SPEAKERS.TXT`` with its comments; one reader's name has a bar in it, as in the release."""
    lines = ["; Readers of this corpus: voices of eSpeak NG", ";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for index, chapter in enumerate(chapters):
        variant = chapter.voice.name.partition("+")[2]
        name = f"|{variant}|{chapter.voice.name}" if index == 0 else chapter.voice.name
        sex = "F" if variant in FEMALE or variant.startswith("f") else "M"
        lines.append(f"{chapter.reader:<5}| {sex} | {chapter.subset:<17}| {len(chapter.sentences) / 40:<5.2f} | {name}")
    _write(root / "LibriSpeech" / "SPEAKERS.TXT", "\n".join(lines) + "\n")


def _session(root: Path, dialog: Dialog) -> Path:
    return root / "IEMOCAP_full_release" / f"Session{int(dialog.name[3:5])}"


def _transcript(dialog: Dialog, turns: Sequence[tuple[str, float, float]]) -> Iterator[str]:
    """Transcriptions, with a tag now and then, a bare line, and an id that has no wav."""
    for index, (line, (name, start, end)) in enumerate(zip(dialog.lines, turns, strict=True)):
        words = f"{line.sentence.capitalize()}."
        if index % 9 == 4:
            words = f"[LAUGHTER] {words} [BREATHING]"
        yield f"{name} [{start:08.4f}-{end:08.4f}]: {words}"
        if index % 12 == 0:
            yield f"{line.sex}: [LAUGHTER]"
    yield f"{dialog.name}_FXX0 [{end:08.4f}-{end + 1:08.4f}]: Hm."


def _evaluation(dialog: Dialog, turns: Sequence[tuple[str, float, float]]) -> Iterator[str]:
    """Evaluations with their raters' lines; a number is missing now and then."""
    yield "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    yield ""
    for index, (line, (name, start, end)) in enumerate(zip(dialog.lines, turns, strict=True)):
        category = CATEGORIES[line.label]
        yield f"[{start:.4f} - {end:.4f}]\t{name}\t{line.label}\t[2.5000, 2.5000, 2.5000]"
        yield f"C-E2:\t{category};\t()"
        yield f"C-E3:\t{category}; Other;\t(unsure)" if line.label == "xxx" else f"C-E3:\t{category};\t()"
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
