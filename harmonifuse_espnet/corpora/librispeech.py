"""LibriSpeech (https://www.openslr.org/12), and any corpus in the same layout."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_boolean
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.common.text import quote, read_lines
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "asr"
COUNTS = {  # subset -> utterances in the release
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
    "(mini subsets: https://www.openslr.org/31)."
)
_RESTORE = "restore the release's file"
TRANSCRIPTS = "[!.]*/[!.]*/[!.]*.trans.txt"  # in <reader>/<chapter>, without hidden files
GENDERS = {"F": "female", "M": "male"}
TargetOf = Callable[[str, str], str]  # (reader, transcript) -> target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--subsets", nargs="+", metavar="SUBSET", help="such as train-clean-5 (default: all in corpus_dir)"
    )
    parser.add_argument(
        "--label", choices=("text", "gender"), default="text", help="target: transcript, or female | male"
    )
    parser.add_argument(
        "--text_case",
        choices=("upper", "lower"),
        default="upper",
        help="upper: as released; lower: fewer tokens with the tokenizer of an LLM (default: %(default)s)",
    )
    add_boolean(parser, "--check_counts", default=True, help="compare the number of utterances with the release")
    parser.add_argument("--task", help="name in the table of tasks (default: asr, or gender for --label gender)")
    help = "number of threads for reading; helps on slow network drives (default: %(default)s)"
    parser.add_argument("--nj", type=int, default=4, help=help)


def prepare(
    corpus_dir: str | Path,
    subsets: Sequence[str] | None = None,
    label: str = "text",
    text_case: str = "upper",
    check_counts: bool = True,
    task: str | None = None,
    nj: int = 4,
) -> dict[str, list[Utterance]]:
    """Return the utterances of each subset; the folder ``train-clean-5`` gives the set ``train_clean_5``.

    Args:
        corpus_dir: ``LibriSpeech``, or its parent folder.
        subsets: Names of folders in it; by default all that have transcripts.
        label: Target: ``text``, or ``gender`` from ``SPEAKERS.TXT``.
        text_case: Case of the transcripts: ``upper``, as released, or ``lower``.
        check_counts: Whether to compare the number of utterances with the release.
        task: Name of the task; by default ``asr`` for text, ``gender`` for gender.
        nj: Number of threads that read chapters.

    Raises:
        MissingFileError: if the corpus, a subset, or the audio of a transcript is missing.
        InputError: on audio without a transcript, an invalid line, a wrong number of utterances, or ``nj`` < 1.
    """
    if nj < 1:
        raise InputError(f"--nj must be at least 1, got {nj}")
    root = corpus_root(corpus_dir, "LibriSpeech/<subset>/<reader>/<chapter>", REMEDY)
    root = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    found = sorted(path.name for path in root.glob("[!.]*") if any(path.glob(TRANSCRIPTS)))
    target_of = _target_function(label, text_case, root / "SPEAKERS.TXT")
    task = task or (TASK if label == "text" else label)
    sets = {}
    for subset in subsets or found:
        if subset not in found:
            present = ", ".join(found) or "no subsets"
            raise MissingFileError(
                f"{root / subset}: has no <reader>/<chapter>/*.trans.txt; {root} has {present}. {REMEDY}"
            )
        rows = _read_subset(root / subset, target_of, task, nj)
        _check_count(root / subset, len(rows), check_counts)
        sets[subset.replace("-", "_")] = rows
    if not sets:
        raise MissingFileError(f"{root}: has no <subset>/<reader>/<chapter>/*.trans.txt. {REMEDY}")
    return sets


def read_genders(path: Path) -> dict[str, str]:
    """Return reader -> ``female`` or ``male`` from ``SPEAKERS.TXT``.

    Its lines are ``ID | SEX | SUBSET | MINUTES | NAME``, or comments that begin with ``;``.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: on an invalid line or a duplicate reader.
    """
    genders = {}
    for number, line in read_lines(path, _RESTORE):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]  # one reader's name contains a bar
        if len(fields) != 5 or fields[1] not in GENDERS or not fields[0]:
            raise InputError(
                f"{path}:{number}: expected 'ID | F or M | SUBSET | MINUTES | NAME', got {quote(line)}; {_RESTORE}"
            )
        if fields[0] in genders:
            raise InputError(f"{path}:{number}: duplicate reader {quote(fields[0])}; {_RESTORE}")
        genders[fields[0]] = GENDERS[fields[1]]
    return genders


def _target_function(label: str, text_case: str, speakers: Path) -> TargetOf:
    if label == "text":
        return lambda reader, transcript: transcript.lower() if text_case == "lower" else transcript
    genders = read_genders(speakers)

    def gender(reader: str, transcript: str) -> str:
        if reader not in genders:
            raise InputError(f"{speakers}: reader {reader} is not in SPEAKERS.TXT; {_RESTORE}")
        return genders[reader]

    return gender


def _read_subset(subset: Path, target_of: TargetOf, task: str, nj: int) -> list[Utterance]:
    """Return the utterances of all chapters, sorted by reader and chapter."""
    readers = [path for path in sorted(subset.glob("[!.]*")) if path.is_dir()]
    chapters = [path for reader in readers for path in sorted(reader.glob("[!.]*")) if path.is_dir()]
    rows: list[Utterance] = []
    untranscribed: list[str] = []
    with ThreadPoolExecutor(nj) as pool:
        read = pool.map(partial(_read_chapter, target_of=target_of, task=task), chapters)
        for utterances, others in progress(read, len(chapters), f"chapters of {subset.name}"):
            rows += utterances
            untranscribed += others
    if untranscribed:
        raise InputError(
            f"{untranscribed[0]}: no transcript ({len(untranscribed)} such files in {subset}); unpack the subset again"
        )
    return rows


def _read_chapter(folder: Path, target_of: TargetOf, task: str) -> tuple[list[Utterance], list[str]]:
    """Return the utterances of a chapter, and its audio files without a transcript."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    audio = {name for name in names if name.endswith(".flac")}
    rows = []
    for name in names:
        if name.endswith(".trans.txt"):
            rows += _read_transcripts(folder / name, audio, target_of, task)
    transcribed = {f"{row.id}.flac" for row in rows}
    return rows, [str(folder / name) for name in sorted(audio - transcribed)]


def _read_transcripts(path: Path, audio: set[str], target_of: TargetOf, task: str) -> list[Utterance]:
    speaker = path.name.removesuffix(".trans.txt")
    reader, folder = speaker.split("-")[0], str(path.parent)
    rows = []
    for number, line in read_lines(path, _RESTORE):
        name, _, text = line.strip().partition(" ")
        if not name:
            continue
        if not text or not name.startswith(f"{speaker}-"):
            raise InputError(f"{path}:{number}: expected '{speaker}-<nnnn> TEXT', got {quote(line)}; {_RESTORE}")
        file = f"{folder}/{name}.flac"
        if f"{name}.flac" not in audio:
            raise MissingFileError(f"{file}: missing, but {path}:{number} transcribes it; unpack the subset again")
        rows.append(Utterance(name, file, target_of(reader, text.strip()), speaker, task))
    return rows


def _check_count(subset: Path, count: int, check_counts: bool) -> None:
    expected = COUNTS.get(subset.name, count)
    if check_counts and count != expected:
        raise InputError(
            f"{subset}: {count} utterances, the release has {expected}; unpack the subset again, "
            "or give --check_counts false for a part of it"
        )
