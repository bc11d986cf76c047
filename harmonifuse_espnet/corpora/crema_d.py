"""CREMA-D (https://github.com/CheyneyComputerScience/CREMA-D): twelve sentences, six emotions, split by actor."""

from __future__ import annotations

import argparse
import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "ser"
EMOTIONS = ("ang", "hap", "neu", "sad", "dis", "fea")
DEFAULT_EMOTIONS = ("ang", "hap", "neu", "sad")
SILENT = ("1076_MTI_SAD_XX",)
NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>ANG|HAP|NEU|SAD|DIS|FEA)_(LO|MD|HI|XX|X)")
REMEDY = "Get it with git (and git-lfs) from https://github.com/CheyneyComputerScience/CREMA-D"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--emotions", nargs="+", choices=EMOTIONS, default=DEFAULT_EMOTIONS, help="(default: ang hap neu sad)"
    )
    parser.add_argument(
        "--label", choices=("emotion", "gender"), default="emotion", help="the answer (default: %(default)s)"
    )
    parser.add_argument("--task", help="name in the table of tasks (default: ser, or gender for --label gender)")


def prepare(
    corpus_dir: str | Path,
    emotions: Sequence[str] = DEFAULT_EMOTIONS,
    label: str = "emotion",
    task: str | None = None,
) -> dict[str, list[Utterance]]:
    """The utterances of ``train``, ``dev`` and ``test``, which share no actor.

    Of the actors, sorted, every fifth is in ``test``; of the others every sixth is in ``dev``. The clip that is digital
    silence (``SILENT``) is left out.

    Args:
        corpus_dir: The folder that holds ``AudioWAV`` (``.wav`` as released, or ``.flac``).
        emotions: Clips of these emotions are taken.
        label: ``emotion``, or ``gender`` (``female`` | ``male``, from ``VideoDemographics.csv``).
        task: Name of the task; ``ser`` or ``gender`` by default, after ``label``.

    Raises:
        FileNotFoundError: if the corpus or the list of actors is missing.
        ValueError: on an unknown emotion, a clip whose name is not the release's, a clip that is there twice.
    """
    unknown = sorted(set(emotions) - set(EMOTIONS))
    if unknown:
        raise InputError(f"unknown emotion label '{unknown[0]}'; CREMA-D has {', '.join(EMOTIONS)}")
    root = corpus_root(corpus_dir, "AudioWAV/1001_DFA_ANG_XX.wav and so on", REMEDY)
    clips = _clips(root / "AudioWAV")
    sexes = _read_sexes(root / "VideoDemographics.csv") if label == "gender" else {}
    parts = split_actors({match["actor"] for match, _ in clips})
    sets: dict[str, list[Utterance]] = {name: [] for name in ("train", "dev", "test")}
    for match, path in clips:
        actor, emotion = match["actor"], match["emotion"].lower()
        if emotion not in emotions:
            continue
        if label == "gender" and actor not in sexes:
            raise InputError(f"{path}: actor {actor} is not in VideoDemographics.csv; take the release's own file")
        text = sexes[actor] if label == "gender" else emotion
        default = "gender" if label == "gender" else TASK
        sets[parts[actor]].append(Utterance(match[0], str(path), text, actor, task or default))
    return sets


def split_actors(actors: set[str]) -> dict[str, str]:
    """Actor -> ``train``, ``dev`` or ``test``: sorted, every fifth is test, every sixth of the others dev."""
    ordered = sorted(actors)
    test = ordered[4::5]
    dev = [actor for actor in ordered if actor not in test][5::6]
    return {actor: "test" if actor in test else "dev" if actor in dev else "train" for actor in ordered}


def _clips(folder: Path) -> list[tuple[re.Match[str], Path]]:
    """The parsed name and the path of each clip, sorted by name."""
    paths = sorted(path for kind in ("wav", "flac") for path in folder.glob(f"[!.]*.{kind}"))
    if not paths:
        raise MissingFileError(f"{folder}: no .wav or .flac clips in it. {REMEDY}")
    clips: dict[str, tuple[re.Match[str], Path]] = {}
    for path in paths:
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise InputError(
                f"{path}: not a clip's name (like 1001_DFA_ANG_XX); remove the file from the corpus folder"
            )
        if path.stem in clips:
            raise InputError(f"{path}: clip '{path.stem}' is also there as {clips[path.stem][1]}; keep one of them")
        clips[path.stem] = (match, path)
    for name in SILENT:
        if clips.pop(name, None):
            logging.info("left out %s: digital silence", name)
    return list(clips.values())


def _read_sexes(path: Path) -> dict[str, str]:
    with open(path, encoding="utf-8-sig", newline="") as lines:
        return {row["ActorID"]: row["Sex"].lower() for row in csv.DictReader(lines)}
