"""IEMOCAP (https://sail.usc.edu/iemocap): five sessions of two actors each.

How they are split into sets is in ``iemocap_protocols.py``, which labels there are in ``iemocap_labels.py``. Traps of
the release dealt with here: the F or M in ``Ses01F_impro01`` is who wears the markers, not who speaks; folders lie
beside the EmoEvaluation files; ``._*`` files; CRLF; transcripts without a wav, and bare ``M:`` lines.
"""

from __future__ import annotations

import argparse
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.corpora.iemocap_labels import COUNTS, DIALOGS, SESSION_COUNTS, WAVS, label_map
from harmonifuse_espnet.corpora.iemocap_protocols import FOLDS, split
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "ser"
REMEDY = "IEMOCAP is licensed: ask for it at https://sail.usc.edu/iemocap/iemocap_release.htm"
EVALUATION = re.compile(r"\[[\d.]+ - [\d.]+\]\t(?P<id>Ses\w+)\t(?P<label>\w+)\t")
TRANSCRIPT = re.compile(r"(?P<id>Ses\w+) \[[\d.]+-[\d.]+\]:(?P<words>.*)")
TAG = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Turn:
    """One utterance of the release: its id, wav, label as released, and words with their tags (None: no transcript)."""

    id: str
    wav: Path
    label: str
    words: str | None

    @property
    def dialog(self) -> str:
        """Such as ``Ses01F_impro01``."""
        return self.id.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        """Session and sex, such as ``Ses01M``: the first letter after the id's last underscore tells who speaks."""
        return self.id[:5] + self.id.rpartition("_")[2][0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--protocol", choices=(*FOLDS, "custom"), required=True, help="how the turns are split into sets"
    )
    parser.add_argument("--fold", type=int, help="superb, emobox: test session 1..5; loso10: test speaker 1..10")
    parser.add_argument("--seed", type=int, default=0, help="of superb's random development set (default: %(default)s)")
    parser.add_argument(
        "--split",
        dest="split_rules",
        nargs="+",
        metavar="SET=REGEX",
        default=(),
        help="custom: a turn goes to the first set whose regular expression is found in its id",
    )
    parser.add_argument("--task", choices=("ser", "asr"), default=TASK, help="label or words (default: %(default)s)")
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL[=ANSWER]",
        default=(),
        help="turns to take: 4 (exc merged into hap), 4_no_exc, 9 or all; or your own, such as neu sad hap=joy exc=joy "
        "(default: 4 for ser, all for asr)",
    )
    parser.add_argument(
        "--text_case",
        choices=("upper", "lower", "released"),
        help="of --task asr, without tags such as [LAUGHTER]: upper as LibriSpeech is written, without punctuation; "
        "the same in lower case; or case and punctuation as released (default: upper)",
    )
    parser.add_argument(
        "--check_counts",
        choices=("auto", "true", "false"),
        default="auto",
        help="hold the release to its published counts (auto: if it has more than half of its wavs)",
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
    """The utterances of each set of a protocol.

    Args:
        corpus_dir: ``IEMOCAP_full_release``, or the folder that holds it.
        protocol: ``superb``, ``emobox``, ``loso10``, ``espnet`` or ``custom``; see ``iemocap_protocols.split``.
        fold: The fold, from 1, of a protocol that has several.
        seed: Seed of superb's random development set.
        split_rules: For ``custom``: ``SET=REGEX``, the first that is found in a turn's id takes it.
        task: ``ser`` (the answer is the label) or ``asr`` (the words, without tags such as ``[LAUGHTER]``).
        labels: ``4`` (exc merged into hap), ``4_no_exc``, ``9`` or ``all``, or rules; see ``iemocap_labels.label_map``.
        text_case: For ``asr``: ``upper`` (see ``upper_words``; the default), ``lower`` or ``released``.
        check_counts: ``true``, ``false``, or ``auto``: if more than half of the release's wavs are there.

    Raises:
        FileNotFoundError: if the corpus, or the wav of an evaluated turn is missing.
        ValueError: on an unknown emotion label, a wrong fold or rule, or counts that are not the release's.
    """
    if text_case and task != "asr":
        raise InputError(f"--text_case {text_case} goes with --task asr, got --task {task}")
    label_of = label_map(labels or ["4" if task == "ser" else "all"])
    root = corpus_root(corpus_dir, "IEMOCAP_full_release/Session1 to Session5", REMEDY)
    root = root / "IEMOCAP_full_release" if (root / "IEMOCAP_full_release").is_dir() else root
    wavs = find_wavs(root)
    turns = read_turns(root, wavs)
    if check_counts == "true" or (check_counts == "auto" and len(wavs) > WAVS / 2):
        _check(root, turns, wavs)
    rows = [
        Utterance(
            turn.id,
            str(turn.wav),
            label_of[turn.label] if task == "ser" else _text(turn, text_case),
            turn.speaker,
            task,
        )
        for turn in turns
        if turn.label in label_of
    ]
    silent = [row.id for row in rows if not row.text]
    if silent:
        logging.info("left out %d turns without words, first %s", len(silent), silent[0])
    return split([row for row in rows if row.text], protocol, fold, seed, split_rules)


def find_wavs(root: Path) -> dict[str, Path]:
    """Id -> wav of every session, evaluated or not.

    Raises:
        FileNotFoundError: if there is no session.
    """
    sessions = _sessions(root)
    return {path.stem: path for session in sessions for path in session.glob("sentences/wav/[!.]*/[!.]*.wav")}


def read_turns(root: Path, wavs: Mapping[str, Path]) -> list[Turn]:
    """Every evaluated turn of every session, in the order of the sessions and of ids.

    Raises:
        FileNotFoundError: if a session's folders, or the wav of a turn is missing.
        ValueError: on an emotion label that the release does not have, or a turn that is evaluated twice.
    """
    turns: dict[str, Turn] = {}
    for session in _sessions(root):
        for turn in sorted(_session(session, wavs), key=lambda turn: turn.id):
            if turn.id in turns:
                raise InputError(f"{session}: turn {turn.id} is evaluated twice; unpack the release again")
            turns[turn.id] = turn
    extra = wavs.keys() - turns.keys()
    if extra:
        logging.info("%s: left out %d wavs without an evaluation, first %s", root, len(extra), min(extra))
    return list(turns.values())


def upper_words(text: str) -> str:
    """Words as LibriSpeech writes them: A-Z and apostrophes (digits stay), one blank between words.

    Numbers and abbreviations are not spelled out.

    Example:
        >>> upper_words("I don't--I mean... 'cause Renée, well, no.")
        "I DON'T I MEAN 'CAUSE RENEE WELL NO"
    """
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    plain = "".join(char for char in plain if not unicodedata.combining(char)).upper()
    return " ".join(word for word in re.sub(r"[^A-Z0-9']+", " ", plain).split() if word.strip("'"))


def _sessions(root: Path) -> list[Path]:
    sessions = [path for path in sorted(root.glob("Session[1-5]")) if path.is_dir()]
    if not sessions:
        raise MissingFileError(f"{root}: none of Session1 to Session5 in it. {REMEDY}")
    return sessions


def _session(session: Path, wavs: Mapping[str, Path]) -> Iterator[Turn]:
    words = {}
    for path in _files(session / "dialog" / "transcriptions"):
        words.update({match["id"]: match["words"].strip() for match in map(TRANSCRIPT.match, _lines(path)) if match})
    for path in _files(session / "dialog" / "EmoEvaluation"):
        for number, line in enumerate(_lines(path), start=1):
            if not line.startswith("["):
                continue
            match = EVALUATION.match(line)
            if match is None:
                raise InputError(f"{path}:{number}: expected '[start - end]<TAB>id<TAB>label<TAB>...', got {line!r}")
            if match["label"] not in COUNTS:
                raise InputError(
                    f"{path}:{number}: unknown emotion label '{match['label']}'; known are {', '.join(COUNTS)}"
                )
            if match["id"] not in wavs:
                wav = session / "sentences" / "wav" / path.stem / f"{match['id']}.wav"
                raise MissingFileError(f"{wav}: missing, yet {path}:{number} evaluates it; unpack the release again")
            yield Turn(match["id"], wavs[match["id"]], match["label"], words.get(match["id"]))


def _files(folder: Path) -> list[Path]:
    paths = [path for path in sorted(folder.glob("[!.]*.txt")) if path.is_file()]
    if not paths:
        raise MissingFileError(f"{folder}: no .txt files in it; unpack the release again. {REMEDY}")
    return paths


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split("\n")


def _text(turn: Turn, text_case: str | None) -> str:
    spoken = TAG.sub(" ", turn.words or "")
    if text_case == "released":
        return " ".join(spoken.split())
    return upper_words(spoken).lower() if text_case == "lower" else upper_words(spoken)


def _check(root: Path, turns: Sequence[Turn], wavs: Mapping[str, Path]) -> None:
    """Compare with the published counts; the error says which numbers differ."""
    labels = Counter(turn.label for turn in turns)
    merged = Counter((turn.id[3:5], "hap+exc" if turn.label in ("hap", "exc") else turn.label) for turn in turns)
    counts = [("wavs", len(wavs), WAVS), ("utterances", len(turns), WAVS)]
    counts += [("dialogs", len({turn.dialog for turn in turns}), DIALOGS)]
    counts += [(label, labels[label], count) for label, count in COUNTS.items()]
    for session, expected in SESSION_COUNTS.items():
        counts += [
            (f"Session{session} {label}", merged[f"{session:02d}", label], count) for label, count in expected.items()
        ]
    differences = [f"{name} {count} (release: {expected})" for name, count, expected in counts if count != expected]
    if differences:
        extra = wavs.keys() - {turn.id for turn in turns}
        without = f"; {len(extra)} wavs have no evaluation, first {min(extra)}" if extra else ""
        raise InputError(
            f"{root}: not the release's counts: {', '.join(differences)}{without}; "
            "unpack it again, or pass --check_counts false for a piece of it"
        )
