"""Synthesise the chapters and dialogs of a plan, and write them in the layouts of LibriSpeech and IEMOCAP."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plan import Chapter, Dialog
from voices import EMOTIONS, Speaker, perform

from harmonifuse_espnet.corpora import synthetic

FEMALE = ("Alicia", "Annie", "belinda", "linda", "steph")


def exists(root: Path, part: Chapter | Dialog) -> bool:
    """Return whether the folder of a chapter or dialog exists; an existing folder is complete."""
    if isinstance(part, Chapter):
        return synthetic.chapter_folder(root, part.subset, part.reader, part.chapter).exists()
    return synthetic.dialog_folder(root, part.name).exists()


def make_chapter(root: Path, chapter: Chapter) -> int:
    """Synthesise and write a chapter, and return its number of utterances."""
    speaker = Speaker()
    readings = (synthetic.ReadSentence(words, speaker.say(chapter.voice, words)) for words in chapter.sentences)
    return synthetic.write_chapter(root, chapter.subset, chapter.reader, chapter.chapter, readings)


def make_dialog(root: Path, dialog: Dialog, seed: int) -> int:
    """Synthesise and write a dialog, and return its number of utterances."""
    speaker = Speaker()
    key = [seed, *dialog.name.encode()]
    generator = np.random.default_rng(key)
    turns = (
        synthetic.ActedTurn(
            line.sex,
            line.sentence,
            line.label,
            speaker.act(dialog.voices[line.sex], line.sentence, perform(EMOTIONS[line.emotion], generator)),
        )
        for line in dialog.lines
    )
    newline = "\r\n" if random.Random(str(key)).random() < 0.5 else "\n"
    return synthetic.write_dialog(root, dialog.name, turns, newline)


def write_speakers(root: Path, chapters: Sequence[Chapter]) -> None:
    """Write ``SPEAKERS.TXT``; one reader's name contains a vertical bar, as in the release."""
    readers = (_reader(index, chapter) for index, chapter in enumerate(chapters))
    synthetic.write_speakers(root, "Readers of this corpus: voices of eSpeak NG", readers)


def _reader(index: int, chapter: Chapter) -> synthetic.SpeakerInfo:
    variant = chapter.voice.name.partition("+")[2]
    name = f"|{variant}|{chapter.voice.name}" if index == 0 else chapter.voice.name
    sex = "F" if variant in FEMALE or variant.startswith("f") else "M"
    return synthetic.SpeakerInfo(chapter.reader, sex, chapter.subset, len(chapter.sentences) / 40, name)
