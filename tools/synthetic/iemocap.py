"""A synthetic corpus in IEMOCAP's format: its 151 dialogs and 10,039 turns, with the published number of each label."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.corpora.iemocap_labels import COUNTS, SESSION_COUNTS, WAVS
from harmonifuse_espnet.corpora.synthetic import ActedTurn, write_dialog
from harmonifuse_espnet.data.audio import SAMPLE_RATE
from synthetic.sounds import draw_words, sound

FOLDER = "IEMOCAP_full_release"
SCRIPTS = ("01_1", "01_2", "01_3", "02_1", "02_2", "03_1", "03_2")
ODD_IMPROVISATIONS = ("01", "02", "03", "04", "05a", "05b", "06", "07", "08a", "08b")  # of Ses03M
ODD_SCRIPT = "01_1b"  # of Ses05M
MOST_WORDS = 3
RECORDINGS = 20  # of each label; its turns are hard links to them
Recordings = dict[str, list[tuple[str, Path]]]  # label -> words and wav


def make_iemocap(out_dir: Path, seconds: tuple[float, float], seed: int, turns: int = WAVS) -> int:
    """Write ``out_dir/IEMOCAP_full_release`` and return its number of turns.

    Args:
        out_dir: The folder to create it in.
        seconds: The length of the shortest and of the longest turn.
        seed: Random seed of words, lengths, noise, and the order of labels.
        turns: The approximate number of turns, a random part of each session.

    Raises:
        InputError: if ``turns`` is out of range.
    """
    if not 50 <= turns <= WAVS:
        raise InputError(f"--turns {turns}: expected 50 to {WAVS}")
    out_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out_dir) as folder:
        recordings = _make_recordings(Path(folder), seconds, seed)
        return sum(_make_session(out_dir, session, recordings, seed, turns / WAVS) for session in SESSION_COUNTS)


def dialog_names(session: int) -> list[str]:
    """Return the dialog names of a session (1..5), with irregular ones; F or M is the actor with the markers."""
    names = []
    for sex in "FM":
        improvisations: tuple[str, ...] = tuple(f"{number:02d}" for number in range(1, 8 if session == 1 else 9))
        scripts = SCRIPTS
        if (session, sex) == (3, "M"):
            improvisations = ODD_IMPROVISATIONS
        if (session, sex) == (5, "M"):
            scripts = (*SCRIPTS, ODD_SCRIPT)
        names += [f"Ses{session:02d}{sex}_impro{number}" for number in improvisations]
        names += [f"Ses{session:02d}{sex}_script{number}" for number in scripts]
    return names


def session_labels(session: int) -> list[str]:
    """Return the label of each turn of a session; counts that are not published by session are spread evenly."""
    return [label for label in COUNTS for _ in range(_turns(label, session))]


def _turns(label: str, session: int) -> int:
    published, total = SESSION_COUNTS[session], COUNTS[label]
    if label == "exc":
        return published["hap+exc"] - _turns("hap", session)
    return published.get(label, total * session // 5 - total * (session - 1) // 5)


def _make_recordings(folder: Path, seconds: tuple[float, float], seed: int) -> Recordings:
    generator, noise = random.Random(seed), np.random.default_rng(seed)
    recordings: Recordings = {}
    for index, label in enumerate(COUNTS):
        for number in range(RECORDINGS):
            words = draw_words(MOST_WORDS, generator)
            wav = folder / f"{label}_{number}.wav"
            samples = sound(words, 100.0 * 1.2**index, generator.uniform(*seconds), noise)
            soundfile.write(wav, samples, SAMPLE_RATE, subtype="PCM_16")
            recordings.setdefault(label, []).append((" ".join(words), wav))
    return recordings


def _make_session(out_dir: Path, session: int, recordings: Recordings, seed: int, part: float) -> int:
    generator = random.Random(f"{seed} {session}")
    labels, dialogs = session_labels(session), dialog_names(session)
    generator.shuffle(labels)
    labels = labels[: round(part * len(labels))]
    dialogs = dialogs[: len(labels)]
    count = 0
    for index, dialog in enumerate(dialogs):
        turns = []
        for turn, label in enumerate(labels[index :: len(dialogs)]):
            words, wav = generator.choice(recordings[label])
            turns.append(ActedTurn("FM"[(index + turn) % 2], words, label, wav))
        count += write_dialog(out_dir, dialog, turns, "\r\n" if index % 5 == 2 else "\n")
    return count
