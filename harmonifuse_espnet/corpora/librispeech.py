"""LibriSpeech (https://www.openslr.org/12), and any corpus in its layout."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "asr"
COUNTS = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
REMEDY = (
    "Download the subsets with python -m harmonifuse_espnet.bin.download, or from https://www.openslr.org/12 "
    "(the small ones from https://www.openslr.org/31)."
)
TRANSCRIPTS = "[!.]*/[!.]*/[!.]*.trans.txt"  # of <reader>/<chapter>; no hidden files
SEXES = {"F": "female", "M": "male"}
Answer = Callable[[str, str], str]  # of a reader and the words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--subsets", nargs="+", metavar="SUBSET", help="such as train-clean-5 (default: all that are there)"
    )
    parser.add_argument(
        "--label", choices=("text", "gender"), default="text", help="the answer: the words, or female | male"
    )
    parser.add_argument(
        "--text_case",
        choices=("upper", "lower"),
        default="upper",
        help="as released, or in lower case, which language models read in fewer tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--check_counts",
        type=boolean,
        default=True,
        metavar="true|false",
        help="hold the release's subsets to its counts",
    )
    parser.add_argument("--task", help="name in the table of tasks (default: asr, or gender for --label gender)")
    parser.add_argument(
        "--nj", type=int, default=4, help="chapters read at a time, for slow network drives (default: %(default)s)"
    )


def prepare(
    corpus_dir: str | Path,
    subsets: Sequence[str] | None = None,
    label: str = "text",
    text_case: str = "upper",
    check_counts: bool = True,
    task: str | None = None,
    nj: int = 4,
) -> dict[str, list[Utterance]]:
    """The utterances of each subset; the set ``train_clean_5`` comes from the folder ``train-clean-5``.

    Args:
        corpus_dir: ``LibriSpeech``, or the folder that holds it.
        subsets: Names of folders in it; by default all that hold transcripts.
        label: ``text`` or ``gender``, from ``SPEAKERS.TXT``.
        text_case: Of the text: ``upper``, as released, or ``lower``.
        check_counts: Whether a subset of the release must have the release's number of utterances.
        task: Name of the task; ``asr`` or ``gender`` by default, after ``label``.
        nj: Threads that read chapters.

    Raises:
        FileNotFoundError: if the corpus, a subset, or the audio of a transcript is missing.
        ValueError: on audio without a transcript, a line that is no transcript, a wrong count, or no threads.
    """
    if nj < 1:
        raise InputError(f"--nj {nj}: at least one chapter must be read at a time")
    root = corpus_root(corpus_dir, "LibriSpeech/<subset>/<reader>/<chapter>", REMEDY)
    root = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    found = sorted(path.name for path in root.glob("[!.]*") if any(path.glob(TRANSCRIPTS)))
    answer = _answers(label, text_case, root / "SPEAKERS.TXT")
    task = task or (TASK if label == "text" else label)
    sets = {}
    for subset in subsets or found:
        if subset not in found:
            there = ", ".join(found) or "no subset at all"
            raise MissingFileError(
                f"{root / subset}: no <reader>/<chapter>/*.trans.txt there; {root} has {there}. {REMEDY}"
            )
        rows = _subset(root / subset, answer, task, nj)
        _check_count(root / subset, len(rows), check_counts)
        sets[subset.replace("-", "_")] = rows
    if not sets:
        raise MissingFileError(f"{root}: no <subset>/<reader>/<chapter>/*.trans.txt in it. {REMEDY}")
    return sets


def read_sexes(path: Path) -> dict[str, str]:
    """Reader -> ``female`` or ``male``, from ``SPEAKERS.TXT`` (``ID | SEX | SUBSET | MINUTES | NAME``, ``;`` comments).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on another kind of line.
    """
    sexes = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]  # one reader's name has a bar in it
        if len(fields) != 5 or fields[1] not in SEXES:
            raise InputError(f"{path}:{number}: expected 'ID | F or M | SUBSET | MINUTES | NAME', got {line!r}")
        sexes[fields[0]] = SEXES[fields[1]]
    return sexes


def _answers(label: str, text_case: str, speakers: Path) -> Answer:
    if label == "text":
        return lambda reader, words: words.lower() if text_case == "lower" else words
    sexes = read_sexes(speakers)

    def sex(reader: str, words: str) -> str:
        if reader not in sexes:
            raise InputError(f"{speakers}: reader {reader} is not in SPEAKERS.TXT; take the release's own SPEAKERS.TXT")
        return sexes[reader]

    return sex


def _subset(subset: Path, answer: Answer, task: str, nj: int) -> list[Utterance]:
    """The utterances of every chapter, in the order of readers and chapters."""
    readers = [path for path in sorted(subset.glob("[!.]*")) if path.is_dir()]
    chapters = [path for reader in readers for path in sorted(reader.glob("[!.]*")) if path.is_dir()]
    rows: list[Utterance] = []
    orphans: list[str] = []
    with ThreadPoolExecutor(nj) as pool:
        read = pool.map(partial(_chapter, answer=answer, task=task), chapters)
        for utterances, left in progress(read, len(chapters), f"chapters of {subset.name}"):
            rows += utterances
            orphans += left
    if orphans:
        raise InputError(f"{orphans[0]}: no transcript ({len(orphans)} such in {subset}); unpack the subset again")
    return rows


def _chapter(folder: Path, answer: Answer, task: str) -> tuple[list[Utterance], list[str]]:
    """The utterances of a chapter's folder, and its audio without a transcript; one look at the folder serves all."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    audio = {name for name in names if name.endswith(".flac")}
    rows = []
    for name in names:
        if name.endswith(".trans.txt"):
            rows += _transcribed(folder / name, audio, answer, task)
    known = {f"{row.id}.flac" for row in rows}
    return rows, [str(folder / name) for name in sorted(audio - known)]


def _transcribed(path: Path, audio: set[str], answer: Answer, task: str) -> list[Utterance]:
    speaker = path.name.removesuffix(".trans.txt")
    reader, folder = speaker.split("-")[0], str(path.parent)
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        name, _, text = line.strip().partition(" ")
        if not name:
            continue
        if not text or not name.startswith(f"{speaker}-"):
            raise InputError(f"{path}:{number}: expected '{speaker}-<nnnn> TEXT', got {line!r}")
        file = f"{folder}/{name}.flac"
        if f"{name}.flac" not in audio:
            raise MissingFileError(f"{file}: missing, yet {path}:{number} transcribes it; unpack the subset again")
        rows.append(Utterance(name, file, answer(reader, text.strip()), speaker, task))
    return rows


def _check_count(subset: Path, count: int, check_counts: bool) -> None:
    expected = COUNTS.get(subset.name, count)
    if check_counts and count != expected:
        raise InputError(
            f"{subset}: {count} utterances, the release has {expected}; unpack it again, "
            "or pass --check_counts false for a piece of it"
        )
