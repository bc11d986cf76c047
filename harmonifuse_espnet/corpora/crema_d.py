"""CREMA-D (https://github.com/CheyneyComputerScience/CREMA-D): twelve sentences in six emotions, split by actor."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.text import quote, read_csv
from harmonifuse_espnet.data.audio import is_lfs_pointer
from harmonifuse_espnet.data.datadir import Utterance, corpus_root

TASK = "ser"
EMOTIONS = ("ang", "hap", "neu", "sad", "dis", "fea")
DEFAULT_EMOTIONS = ("ang", "hap", "neu", "sad")
SETS = ("train", "dev", "test")
SILENT = ("1076_MTI_SAD_XX",)  # clips of digital silence
NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>ANG|HAP|NEU|SAD|DIS|FEA)_(LO|MD|HI|XX|X)")
_MAX_POINTER_BYTES = 1024
REMEDY = "Clone it with git (and git-lfs) from https://github.com/CheyneyComputerScience/CREMA-D"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--emotions",
        nargs="+",
        choices=EMOTIONS,
        default=DEFAULT_EMOTIONS,
        help="emotions to use (default: ang hap neu sad)",
    )
    parser.add_argument(
        "--label", choices=("emotion", "gender"), default="emotion", help="target (default: %(default)s)"
    )
    parser.add_argument("--task", help="name in the table of tasks (default: ser, or gender for --label gender)")
    parser.add_argument("--one_set", choices=SETS, help="put all actors into this set (default: split them by actor)")


def prepare(
    corpus_dir: str | Path,
    emotions: Sequence[str] = DEFAULT_EMOTIONS,
    label: str = "emotion",
    task: str | None = None,
    one_set: str | None = None,
) -> dict[str, list[Utterance]]:
    """Return the utterances of ``train``, ``dev`` and ``test``, which have no actor in common, or of one set.

    See :func:`split_actors` for the split. The clips in ``SILENT`` are left out.

    Args:
        corpus_dir: The folder with ``AudioWAV`` (``.wav`` as released, or ``.flac``).
        emotions: Emotions to use.
        label: Target: ``emotion``, or ``gender`` (``female`` or ``male``, from ``VideoDemographics.csv``).
        task: Name of the task; by default ``ser`` for emotion, ``gender`` for gender.
        one_set: ``train``, ``dev`` or ``test``: the only set, with all actors of the folder; None: three sets.

    Raises:
        MissingFileError: if the corpus or the list of actors is missing.
        InputError: on an unknown emotion, an invalid file name, or a duplicate clip.
    """
    unknown = sorted(set(emotions) - set(EMOTIONS))
    if unknown:
        raise InputError(f"unknown emotion label '{unknown[0]}'; CREMA-D has {', '.join(EMOTIONS)}")
    root = corpus_root(corpus_dir, "AudioWAV/1001_DFA_ANG_XX.wav and so on", REMEDY)
    clips = _find_clips(root / "AudioWAV")
    genders = read_genders(root / "VideoDemographics.csv") if label == "gender" else {}
    actors = {match["actor"] for match, _ in clips}
    parts = dict.fromkeys(actors, one_set) if one_set else split_actors(actors)
    sets: dict[str, list[Utterance]] = {name: [] for name in ([one_set] if one_set else SETS)}
    for match, path in clips:
        actor, emotion = match["actor"], match["emotion"].lower()
        if emotion not in emotions:
            continue
        if label == "gender" and actor not in genders:
            raise InputError(f"{path}: actor {actor} is not in VideoDemographics.csv; restore the release's file")
        text = genders[actor] if label == "gender" else emotion
        default = "gender" if label == "gender" else TASK
        sets[parts[actor]].append(Utterance(match[0], str(path), text, actor, task or default))
    return sets


def split_actors(actors: set[str]) -> dict[str, str]:
    """Return actor -> ``train``, ``dev`` or ``test``.

    Every fifth of the sorted actors is in test, and every sixth of the others in dev.
    """
    ordered = sorted(actors)
    test = ordered[4::5]
    dev = [actor for actor in ordered if actor not in test][5::6]
    return {actor: "test" if actor in test else "dev" if actor in dev else "train" for actor in ordered}


def _find_clips(folder: Path) -> list[tuple[re.Match[str], Path]]:
    """Return the parsed name and the path of each clip, sorted by name."""
    paths = sorted(path for kind in ("wav", "flac") for path in folder.glob(f"[!.]*.{kind}"))
    if not paths:
        raise MissingFileError(f"{folder}: no .wav or .flac clips. {REMEDY}")
    clips: dict[str, tuple[re.Match[str], Path]] = {}
    for path in paths:
        match = NAME.fullmatch(path.stem)
        if path.stat().st_size < _MAX_POINTER_BYTES and is_lfs_pointer(path):
            raise InputError(f"{path}: a git-lfs pointer, not audio; run 'git lfs pull' in {folder.parent}")
        if match is None:
            raise InputError(f"{path}: invalid clip name, expected a name like 1001_DFA_ANG_XX; remove the file")
        if path.stem in clips:
            raise InputError(f"{path}: duplicate clip '{path.stem}', also in {clips[path.stem][1]}; remove one of them")
        clips[path.stem] = (match, path)
    for name in SILENT:
        if clips.pop(name, None):
            logging.info("left out %s: digital silence", name)
    return list(clips.values())


def read_genders(path: Path) -> dict[str, str]:
    """Return actor -> ``female`` or ``male``, from ``VideoDemographics.csv``.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: on an invalid line or a duplicate actor.
    """
    genders = {}
    for number, row in read_csv(path, ["ActorID", "Sex"], "restore the release's file"):
        if row["Sex"] not in ("Female", "Male") or row["ActorID"] in genders or not row["ActorID"]:
            raise InputError(
                f"{path}:{number}: actor {quote(row['ActorID'])} with sex {quote(row['Sex'])}; expected Female or "
                "Male, and each actor once; restore the release's file"
            )
        genders[row["ActorID"]] = row["Sex"].lower()
    return genders
