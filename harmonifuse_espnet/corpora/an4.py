"""CMU AN4 (http://www.speech.cs.cmu.edu/databases/an4), with the ids and sets of ESPnet's recipe egs2/an4."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import atomic_path
from harmonifuse_espnet.common.text import quote, read_lines
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "asr"
EXTENSIONS = (".sph", ".flac", ".wav", ".raw")
DEV_UTTERANCES = 100
RAW_SAMPLE_RATE = 16000
REMEDY = "Download and unpack http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument("--task", default=TASK, help="name in the table of tasks (default: %(default)s)")
    parser.add_argument("--converted_dir", help="folder for FLAC copies of headerless .raw audio")


def prepare(
    corpus_dir: str | Path, task: str = TASK, converted_dir: str | Path | None = None
) -> dict[str, list[Utterance]]:
    """Return the utterances of ``train_nodev``, ``train_dev`` (the first 100 training utterances by id) and ``test``.

    Args:
        corpus_dir: ``an4``, or its parent folder.
        task: Name of the task.
        converted_dir: Folder for FLAC copies of headerless ``.raw`` audio (16 kHz, 16 bit, big-endian), which some
            releases have.

    Raises:
        MissingFileError: if the corpus, one of its lists, or an audio file is missing.
        InputError: if ids and transcripts differ, or if there is ``.raw`` audio but no ``converted_dir``.
    """
    root = corpus_root(corpus_dir, "an4/etc and an4/wav", REMEDY)
    root = root / "an4" if (root / "an4").is_dir() else root
    train, test = (_read_part(root, part, task) for part in ("train", "test"))
    sets = {"train_nodev": train[DEV_UTTERANCES:], "train_dev": train[:DEV_UTTERANCES], "test": test}
    return {name: [_convert_raw(row, converted_dir) for row in rows] for name, rows in sets.items()}


def _read_part(root: Path, part: str, task: str) -> list[Utterance]:
    """Return the utterances of ``train`` or ``test``, sorted by id."""
    ids_file, transcripts_file = (root / "etc" / f"an4_{part}.{kind}" for kind in ("fileids", "transcription"))
    files, lines = _read_lines(ids_file), _read_lines(transcripts_file)
    if len(files) != len(lines):
        raise InputError(
            f"{ids_file} has {len(files)} lines, {transcripts_file} has {len(lines)}; expected one line for each id. "
            f"{REMEDY}"
        )
    rows = []
    for (_, file), (number, line) in zip(files, lines, strict=True):
        name = file.rsplit("/", 1)[-1]
        match = re.fullmatch(r"(?:<s> )?(.*?)(?: </s>)? *\((.+)\)", line)
        if match is None or match[2] != name or name.count("-") != 2:
            raise InputError(
                f"{transcripts_file}:{number}: expected 'WORDS ({name})' as in {ids_file.name}, got {quote(line)}. "
                f"{REMEDY}"
            )
        session, speaker, last = name.split("-")
        audio = _find_audio(Path(f"{root}/wav/{file}"))  # "/" would leave the corpus if file starts with a slash
        rows.append(Utterance(f"{speaker}-{session}-{last}", str(audio), match[1].strip(), audio.parent.name, task))
    return sorted(rows, key=lambda row: row.id)


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the numbers and the texts of the lines that are not empty."""
    return [(number, line.strip()) for number, line in read_lines(path, REMEDY) if line.strip()]


def _find_audio(stem: Path) -> Path:
    for extension in EXTENSIONS:
        if os.path.isfile(f"{stem}{extension}"):
            return Path(f"{stem}{extension}")
    raise MissingFileError(f"{stem}: no audio with the extension {', '.join(EXTENSIONS)}. {REMEDY}")


def _convert_raw(row: Utterance, converted_dir: str | Path | None) -> Utterance:
    """Replace headerless audio by a FLAC copy; return other utterances unchanged."""
    if not row.audio.endswith(".raw"):
        return row
    if converted_dir is None:
        raise InputError(f"{row.audio}: headerless audio; give --converted_dir, a folder for FLAC copies")
    import soundfile

    copy = Path(converted_dir).absolute() / row.speaker / f"{row.id}.flac"
    if not copy.is_file():
        samples, rate = soundfile.read(
            row.audio,
            dtype="int16",
            samplerate=RAW_SAMPLE_RATE,
            channels=1,
            format="RAW",
            subtype="PCM_16",
            endian="BIG",
        )
        with atomic_path(copy) as temporary:
            soundfile.write(temporary, samples, rate, format="FLAC")
    return replace(row, audio=str(copy))
