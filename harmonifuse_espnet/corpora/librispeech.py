"""LibriSpeech (https://www.openslr.org/12), and any corpus in its layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.bin import boolean
from harmonifuse_espnet.corpora.datadir import Utterance, corpus_root

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
REMEDY = "Download the subsets from https://www.openslr.org/12 (the small ones from https://www.openslr.org/31)."
TRANSCRIPTS, AUDIO = "[!.]*/[!.]*/[!.]*.trans.txt", "[!.]*/[!.]*/[!.]*.flac"  # of <reader>/<chapter>; no hidden files
SEXES = {"F": "female", "M": "male"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--subsets", nargs="+", metavar="SUBSET", help="such as train-clean-5 (default: all that are there)"
    )
    parser.add_argument(
        "--label", choices=("text", "gender"), default="text", help="the answer: the words, or female | male"
    )
    parser.add_argument(
        "--check_counts",
        type=boolean,
        default=True,
        metavar="true|false",
        help="hold the release's subsets to its counts",
    )
    parser.add_argument("--task", help="name in the table of tasks (default: asr, or gender for --label gender)")


def prepare(
    corpus_dir: str | Path,
    subsets: Sequence[str] | None = None,
    label: str = "text",
    check_counts: bool = True,
    task: str | None = None,
) -> dict[str, list[Utterance]]:
    """The utterances of each subset; the set ``train_clean_5`` comes from the folder ``train-clean-5``.

    Args:
        corpus_dir: ``LibriSpeech``, or the folder that holds it.
        subsets: Names of folders in it; by default all that hold transcripts.
        label: ``text``, upper case as released, or ``gender``, from ``SPEAKERS.TXT``.
        check_counts: Whether a subset of the release must have the release's number of utterances.
        task: Name of the task; ``asr`` or ``gender`` by default, after ``label``.

    Raises:
        FileNotFoundError: if the corpus, a subset, or the audio of a transcript is missing.
        ValueError: on audio without a transcript, a line that is no transcript, or a wrong count.
    """
    root = corpus_root(corpus_dir, "LibriSpeech/<subset>/<reader>/<chapter>", REMEDY)
    root = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    found = sorted({path.parents[2].name for path in root.glob(f"[!.]*/{TRANSCRIPTS}")})
    sexes = read_sexes(root / "SPEAKERS.TXT") if label == "gender" else {}
    sets = {}
    for subset in subsets or found:
        if subset not in found:
            there = ", ".join(found) or "no subset at all"
            raise FileNotFoundError(
                f"{root / subset}: no <reader>/<chapter>/*.trans.txt there; {root} has {there}. {REMEDY}"
            )
        rows = [row for path in sorted((root / subset).glob(TRANSCRIPTS)) for row in _chapter(path, sexes, task)]
        _check(root / subset, rows, check_counts)
        sets[subset.replace("-", "_")] = rows
    if not sets:
        raise FileNotFoundError(f"{root}: no <subset>/<reader>/<chapter>/*.trans.txt in it. {REMEDY}")
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
            raise ValueError(f"{path}:{number}: expected 'ID | F or M | SUBSET | MINUTES | NAME', got {line!r}")
        sexes[fields[0]] = SEXES[fields[1]]
    return sexes


def _chapter(path: Path, sexes: dict[str, str], task: str | None) -> list[Utterance]:
    rows = []
    speaker = path.name.removesuffix(".trans.txt")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        if not text or not name.startswith(f"{speaker}-"):
            raise ValueError(f"{path}:{number}: expected '{speaker}-<nnnn> TEXT', got {line!r}")
        audio = path.parent / f"{name}.flac"
        if not audio.is_file():
            raise FileNotFoundError(f"{audio}: missing, yet {path}:{number} transcribes it; unpack the subset again")
        rows.append(Utterance(name, str(audio), text.strip(), speaker, task or TASK))
    if sexes:
        reader = speaker.split("-")[0]
        if reader not in sexes:
            raise ValueError(f"{path}: reader {reader} is not in SPEAKERS.TXT; take the release's own SPEAKERS.TXT")
        rows = [Utterance(row.id, row.audio, sexes[reader], speaker, task or "gender") for row in rows]
    return rows


def _check(subset: Path, rows: list[Utterance], check_counts: bool) -> None:
    known = {row.audio for row in rows}
    orphans = [path for path in sorted(subset.glob(AUDIO)) if str(path) not in known]
    if orphans:
        raise ValueError(f"{orphans[0]}: no transcript ({len(orphans)} such in {subset}); unpack the subset again")
    expected = COUNTS.get(subset.name, len(rows))
    if check_counts and len(rows) != expected:
        raise ValueError(
            f"{subset}: {len(rows)} utterances, the release has {expected}; unpack it again, "
            "or pass --check_counts false for a piece of it"
        )
