"""IEMOCAP (https://sail.usc.edu/iemocap): five sessions of two actors each.

``iemocap_release.py`` reads the release, ``iemocap_protocols.py`` splits it into sets, and ``iemocap_labels.py``
defines the label sets.
"""

from __future__ import annotations

import argparse
import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.corpora.iemocap_labels import WAVS, label_map
from harmonifuse_espnet.corpora.iemocap_protocols import FOLDS, split
from harmonifuse_espnet.corpora.iemocap_release import REMEDY, Turn, check_release_counts, find_wavs, read_turns
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "ser"
TAG = re.compile(r"\[[^\]]*\]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument("--protocol", choices=(*FOLDS, "custom"), required=True, help="split into sets")
    parser.add_argument("--fold", type=int, help="test session 1..5 of superb and emobox, test speaker 1..10 of loso10")
    parser.add_argument("--seed", type=int, default=0, help="seed of superb's dev set (default: %(default)s)")
    parser.add_argument(
        "--split",
        dest="split_rules",
        nargs="+",
        metavar="SET=REGEX",
        default=(),
        help="rules of --protocol custom: the first regular expression found in the id of a turn gives its set",
    )
    help = "the target is the label (ser) or the transcript (asr) (default: %(default)s)"
    parser.add_argument("--task", choices=("ser", "asr"), default=TASK, help=help)
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL[=TARGET]",
        default=(),
        help="labels to use: 4 (exc merged into hap), 4_no_exc, 9 or all; or a list, such as neu sad hap=joy exc=joy "
        "(default: 4 for ser, all for asr)",
    )
    parser.add_argument(
        "--text_case",
        choices=("upper", "lower", "released"),
        help="transcripts of --task asr, without tags such as [LAUGHTER]. upper: as in LibriSpeech, no punctuation; "
        "lower: the same in lower case; released: case and punctuation unchanged (default: upper)",
    )
    parser.add_argument(
        "--check_counts",
        choices=("auto", "true", "false"),
        default="auto",
        help="compare with the published counts (auto: only if more than half of the wavs are present)",
    )


def prepare(
    corpus_dir: str | Path,
    protocol: str,
    fold: int | None = None,
    seed: int = 0,
    split_rules: Sequence[str] = (),
    task: str = TASK,
    labels: Sequence[str] = (),
    text_case: str | None = None,
    check_counts: str = "auto",
) -> dict[str, list[Utterance]]:
    """Return the utterances of each set of a protocol.

    Args:
        corpus_dir: ``IEMOCAP_full_release``, or its parent folder.
        protocol: ``superb``, ``emobox``, ``loso10``, ``espnet`` or ``custom``; see ``iemocap_protocols.split``.
        fold: Fold of the protocol, counted from 1.
        seed: Seed of superb's dev set.
        split_rules: For ``custom``: ``SET=REGEX``; the first rule found in the id of a turn gives its set.
        task: ``ser`` (the target is the label) or ``asr`` (the transcript, without tags such as ``[LAUGHTER]``).
        labels: ``4`` (exc merged into hap), ``4_no_exc``, ``9`` or ``all``, or rules; see ``iemocap_labels.label_map``.
        text_case: For ``asr``: ``upper`` (default; see ``normalize_transcript``), ``lower`` or ``released``.
        check_counts: Whether to compare with the published counts: ``true``, ``false``, or ``auto``: only if more than
            half of the release's wavs are present.

    Raises:
        MissingFileError: if the corpus or the wav of a labelled turn is missing.
        InputError: on an unknown emotion label, an invalid fold or rule, or unexpected counts.
    """
    if text_case and task != "asr":
        raise InputError(f"--text_case {text_case} needs --task asr, got --task {task}; leave out --text_case")
    label_of = label_map(labels or ["4" if task == "ser" else "all"])
    root = corpus_root(corpus_dir, "IEMOCAP_full_release/Session1 to Session5", REMEDY)
    root = root / "IEMOCAP_full_release" if (root / "IEMOCAP_full_release").is_dir() else root
    wavs = find_wavs(root)
    turns = read_turns(root, wavs)
    if check_counts == "true" or (check_counts == "auto" and len(wavs) > WAVS / 2):
        check_release_counts(root, turns, wavs)
    rows = [
        Utterance(
            turn.id,
            str(turn.wav),
            label_of[turn.label] if task == "ser" else _transcript(turn, text_case),
            turn.speaker,
            task,
        )
        for turn in turns
        if turn.label in label_of
    ]
    empty = [row.id for row in rows if not row.text]
    if empty:
        logging.info("left out %d turns without words, first %s", len(empty), empty[0])
    return split([row for row in rows if row.text], protocol, fold, seed, split_rules)


def normalize_transcript(text: str) -> str:
    """Normalise text as in LibriSpeech: A-Z, digits and apostrophes, with one space between words.

    Numbers and abbreviations are not spelled out.

    Example:
        >>> normalize_transcript("I don't--I mean... 'cause Renée, well, no.")
        "I DON'T I MEAN 'CAUSE RENEE WELL NO"
    """
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    plain = "".join(char for char in plain if not unicodedata.combining(char)).upper()
    return " ".join(word for word in re.sub(r"[^A-Z0-9']+", " ", plain).split() if word.strip("'"))


def _transcript(turn: Turn, text_case: str | None) -> str:
    words = TAG.sub(" ", turn.words or "")
    if text_case == "released":
        return " ".join(words.split())
    return normalize_transcript(words).lower() if text_case == "lower" else normalize_transcript(words)
