"""Readers of the corpora's own lists and transcripts."""

from __future__ import annotations

import re
from pathlib import Path

from fuzzing.losses import lines_of, lost_count, lost_lines, visible
from fuzzing.reader import Contents, Reader
from harmonifuse_espnet.corpora import an4, crema_d, librispeech
from harmonifuse_espnet.corpora.iemocap_release import Turn, find_wavs, read_turns
from harmonifuse_espnet.data.datadir import Utterance

Sets = dict[str, list[Utterance]]
AN4 = ("an401-fash-b", "an402-fash-b", "an403-mabc-b")
TURNS = ("Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_M001")
SPEAKERS = b"""; a comment | with | bars | in | it
;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | train-clean-360  | 25.03 | Kristin LeMoine
60   | M | train-clean-100  | 20.18 | |CBW|Simon
"""
TRANSCRIPTIONS = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses01F_impro01_M000 [007.5712-010.4750]: Do you have your forms? [LAUGHTER]
M: Yeah.
Ses01F_impro01_M001 [010.9266-014.6649]: Yeah.
Ses01F_impro01_FXX0 [015.0000-015.5000]: Hm.
"""
EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
[7.5712 - 10.4750]\tSes01F_impro01_M000\tfru\t[2.5000, 2.5000, 2.5000]
[10.9266 - 14.6649]\tSes01F_impro01_M001\txxx\t[2.5000, 2.5000, 2.5000]
"""


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _an4(folder: Path) -> Contents:
    _touch(folder / "etc/an4_train.fileids", *(folder / f"wav/clstk/{name[6:10]}/{name}.sph" for name in AN4))
    for kind in ("fileids", "transcription"):
        (folder / f"etc/an4_train.{kind}").touch()
    files = "".join(f"clstk/{name[6:10]}/{name}\n" for name in AN4).encode()
    words = "".join(f"<s> {word} </s> ({name})\n" for word, name in zip(("GO ON", "A B", "CAFÉ"), AN4, strict=True))
    plain = "".join(f"{word} ({name})\n" for word, name in zip(("GO ON", "A B", "CAFÉ"), AN4, strict=True))
    return {"etc/an4_test.fileids": [files], "etc/an4_test.transcription": [words.encode(), plain.encode()]}


def _lost_an4(name: str, text: str, sets: Sets) -> str:
    lines = [line for line in lines_of(text) if line.strip()]
    if name.endswith("fileids"):
        return lost_count(len(lines), len(sets["test"]), "lines")
    texts = (re.sub(r"^\s*(<s> )?|( </s>)? *\([^()]*\)\s*$", "", line) for line in lines)
    return lost_lines(sorted(map(visible, texts)), sorted(visible(row.text) for row in sets["test"]))


def _librispeech(folder: Path) -> Contents:
    chapter = folder / "dev-mini/7/121"
    _touch(*(chapter / f"7-121-000{number}.flac" for number in range(3)))
    return {"dev-mini/7/121/7-121.trans.txt": [b"7-121-0000 DON'T GO\n7-121-0001 YES\n7-121-0002 CAF\xc3\x89\n"]}


def _read_librispeech(folder: Path) -> Sets:
    return librispeech.prepare(folder, ["dev-mini"], nj=1)


def _lost_librispeech(name: str, text: str, sets: Sets) -> str:
    rows = sets["dev_mini"]
    return lost_lines([line for line in lines_of(text) if line.strip()], [f"{row.id}{row.text}" for row in rows])


def _speakers(folder: Path) -> Contents:
    return {"SPEAKERS.TXT": [SPEAKERS]}


def _lost_genders(name: str, text: str, genders: dict[str, str]) -> str:
    lines = [line for line in lines_of(text) if line.strip() and not line.startswith(";")]
    return lost_lines(
        (line.split("|")[0] + line.split("|")[1].strip()[:1] for line in lines),
        (f"{reader}{gender[0].upper()}" for reader, gender in genders.items()),
    )


def _crema_d(folder: Path) -> Contents:
    _touch(folder / "AudioWAV/1001_DFA_ANG_XX.wav")
    (folder / "AudioWAV/1001_DFA_ANG_XX.wav").write_bytes(bytes(2000))
    return {"VideoDemographics.csv": [b"ActorID,Age,Sex,Race\n1001,51,Male,Caucasian\n1002,21,Female,Asian\n"]}


def _lost_actors(name: str, text: str, genders: dict[str, str]) -> str:
    rows = [line for line in lines_of(text)[1:] if visible(line).strip(',;|"')]
    return lost_count(len(rows), len(genders), "actors") if '"' not in text and text.isascii() else ""


def _iemocap(folder: Path) -> Contents:
    session = folder / "Session1"
    _touch(*(session / f"sentences/wav/Ses01F_impro01/{turn}.wav" for turn in TURNS))
    _touch(session / "dialog/transcriptions/Ses01F_impro01.txt", session / "dialog/EmoEvaluation/Ses01F_impro01.txt")
    return {
        "Session1/dialog/transcriptions/Ses01F_impro01.txt": [TRANSCRIPTIONS.encode()],
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": [EVALUATION.encode()],
    }


def _lost_turns(name: str, text: str, turns: list[Turn]) -> str:
    """Every line of the labels is a turn; a labelled turn has its transcript if a line begins with its id."""
    if "EmoEvaluation" in name:
        return lost_count(sum(line.lstrip().startswith("[") for line in lines_of(text)), len(turns), "turns")
    words = {turn.id: visible(turn.words) for turn in turns if turn.words is not None}
    labelled = {turn.id for turn in turns}
    lines = {(re.split(r"[ \t]", line.lstrip())[0], visible(line.partition("]:")[2])) for line in lines_of(text)}
    return lost_lines(
        *(sorted(map("".join, rows)) for rows in ([row for row in lines if row[0] in labelled], words.items()))
    )


READERS = {
    "corpora.an4.prepare": Reader(_an4, an4.prepare, _lost_an4),
    "corpora.librispeech.prepare": Reader(_librispeech, _read_librispeech, _lost_librispeech),
    "corpora.librispeech.read_genders": Reader(
        _speakers, lambda folder: librispeech.read_genders(folder / "SPEAKERS.TXT"), _lost_genders
    ),
    "corpora.crema_d.read_genders": Reader(
        _crema_d, lambda folder: crema_d.read_genders(folder / "VideoDemographics.csv"), _lost_actors
    ),
    "corpora.iemocap_release.read_turns": Reader(
        _iemocap, lambda folder: read_turns(folder, find_wavs(folder)), _lost_turns, fallback="latin-1"
    ),
}
