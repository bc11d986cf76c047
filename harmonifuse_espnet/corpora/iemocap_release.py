"""Read the turns of an IEMOCAP release.

Irregularities of the release: the F or M in ``Ses01F_impro01`` is the actor with motion-capture markers, not the
speaker; there are folders among the EmoEvaluation files, ``._*`` files, CRLF line ends, transcripts without a wav, and
lines that begin with ``M:`` instead of an id.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.text import quote, read_lines
from harmonifuse_espnet.corpora.iemocap_labels import COUNTS, DIALOGS, SESSION_COUNTS, WAVS

REMEDY = "IEMOCAP is licensed: request it at https://sail.usc.edu/iemocap/iemocap_release.htm"
EVALUATION = re.compile(r"\[[\d.]+ - [\d.]+\]\t(?P<id>Ses\w+)\t(?P<label>\w+)\t")
_AGAIN = "unpack the release again"
ID = re.compile(r"Ses\w+")
TRANSCRIPT = re.compile(r"(?P<id>Ses\w+) \[[\d.]+-[\d.]+\]:(?P<words>.*)")


@dataclass(frozen=True)
class Turn:
    """One turn of a dialog.

    Attributes:
        id: Id in the release, such as ``Ses01F_impro01_M000``.
        wav: Audio file.
        label: Emotion label of the release.
        words: Transcript with tags such as ``[LAUGHTER]``, or None.
    """

    id: str
    wav: Path
    label: str
    words: str | None

    @property
    def dialog(self) -> str:
        """Id of the dialog, such as ``Ses01F_impro01``."""
        return self.id.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        """Session and gender, such as ``Ses01M``; the gender is the letter after the last underscore of the id."""
        return self.id[:5] + self.id.rpartition("_")[2][0]


def find_wavs(root: Path) -> dict[str, Path]:
    """Return id -> wav for all sessions, with or without a label.

    Raises:
        MissingFileError: if there is no session.
    """
    sessions = _sessions(root)
    return {path.stem: path for session in sessions for path in session.glob("sentences/wav/[!.]*/[!.]*.wav")}


def read_turns(root: Path, wavs: Mapping[str, Path]) -> list[Turn]:
    """Return the labelled turns of all sessions, sorted by session and id.

    Raises:
        MissingFileError: if a session's folders, or the wav of a turn is missing.
        InputError: on an unknown emotion label, or a turn with two labels.
    """
    turns: dict[str, Turn] = {}
    for session in _sessions(root):
        for turn in sorted(_read_session(session, wavs), key=lambda turn: turn.id):
            if turn.id in turns:
                raise InputError(f"{session}: turn {turn.id} has two labels; unpack the release again")
            turns[turn.id] = turn
    extra = wavs.keys() - turns.keys()
    if extra:
        logging.info("%s: left out %d wavs without a label, first %s", root, len(extra), min(extra))
    return list(turns.values())


def check_release_counts(root: Path, turns: Sequence[Turn], wavs: Mapping[str, Path]) -> None:
    """Compare the release with its published counts.

    Raises:
        InputError: if a count differs; the message lists all of them.
    """
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
        without = f"; {len(extra)} wavs have no label, first {min(extra)}" if extra else ""
        raise InputError(
            f"{root}: counts differ from the release: {', '.join(differences)}{without}; "
            "unpack the release again, or give --check_counts false for a part of it"
        )


def _sessions(root: Path) -> list[Path]:
    sessions = [path for path in sorted(root.glob("Session[1-5]")) if path.is_dir()]
    if not sessions:
        raise MissingFileError(f"{root}: no folder Session1 to Session5. {REMEDY}")
    return sessions


def _read_session(session: Path, wavs: Mapping[str, Path]) -> Iterator[Turn]:
    words = _read_transcripts(session)
    for path in _text_files(session / "dialog" / "EmoEvaluation"):
        for number, line in _read_lines(path):
            if not line.lstrip().startswith("["):
                continue
            match = EVALUATION.match(line.lstrip())
            if match is None:
                raise InputError(
                    f"{path}:{number}: expected '[start - end]<TAB>id<TAB>label<TAB>...', got {quote(line)}; {_AGAIN}"
                )
            if match["label"] not in COUNTS:
                raise InputError(
                    f"{path}:{number}: unknown emotion label '{match['label']}'; the release has {', '.join(COUNTS)}"
                )
            if match["id"] not in wavs:
                wav = session / "sentences" / "wav" / path.stem / f"{match['id']}.wav"
                raise MissingFileError(f"{wav}: missing, but {path}:{number} has its label; unpack the release again")
            text = words.get(match["id"])
            if isinstance(text, InputError):
                raise text
            yield Turn(match["id"], wavs[match["id"]], match["label"], text)


def _read_transcripts(session: Path) -> dict[str, str | InputError]:
    """Return id -> transcript; an error if the line of the id has no transcript, or there are two different ones."""
    words: dict[str, str | InputError] = {}
    for path in _text_files(session / "dialog" / "transcriptions"):
        for number, line in _read_lines(path):
            name, match = ID.match(line.lstrip()), TRANSCRIPT.match(line.lstrip())
            if name is None:  # such as "M: Yeah."
                continue
            found = match["words"].strip() if match else None
            if found is None:
                expected = f"'{name[0]} [start-end]: words'"
                words[name[0]] = InputError(f"{path}:{number}: expected {expected}, got {quote(line)}; {_AGAIN}")
            elif words.setdefault(name[0], found) != found:
                words[name[0]] = InputError(f"{path}:{number}: a second transcript of {name[0]}; {_AGAIN}")
    return words


def _text_files(folder: Path) -> list[Path]:
    paths = [path for path in sorted(folder.glob("[!.]*.txt")) if path.is_file()]
    if not paths:
        raise MissingFileError(f"{folder}: has no .txt files; unpack the release again. {REMEDY}")
    return paths


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file; annotators' comments may be in Latin-1."""
    return read_lines(path, REMEDY, fallback="latin-1")
