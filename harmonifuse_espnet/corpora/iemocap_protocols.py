"""Published protocols for splitting IEMOCAP into sets. Scores of different protocols are not comparable."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import Utterance

FOLDS = {"superb": 5, "emobox": 5, "loso10": 10, "espnet": 1}  # protocol -> number of folds
DEV_FRACTION = 0.2  # of superb's training sessions
Sets = dict[str, list[Utterance]]


def split(utterances: Sequence[Utterance], protocol: str, fold: int | None, seed: int, rules: Sequence[str]) -> Sets:
    """Return the sets of a protocol; empty sets are left out.

    * ``superb``: test is session ``fold``; dev is a random sample of about 20 % of the other utterances, with
      the same speakers as train.
    * ``emobox``: as ``superb``, without dev.
    * ``loso10``: test is speaker ``fold`` (Ses01F, Ses01M, Ses02F, ...), dev the other speaker of that session.
    * ``espnet``: test is session 5; dev is the dialogs ``Ses04M_*``, with both speakers.
    * ``custom``: the first rule ``SET=REGEX`` found in the utterance id gives the set.

    Raises:
        InputError: if the fold is missing or out of range, or a rule is not ``SET=REGEX``.
    """
    if protocol == "custom":
        set_of = _custom(rules)
    elif rules:
        raise InputError(f"--split needs --protocol custom, got --protocol {protocol}")
    else:
        set_of = _PROTOCOLS[protocol](_check_fold(protocol, fold))
    sets: Sets = {}
    for utterance in utterances:
        sets.setdefault(set_of(utterance), []).append(utterance)
    sets.pop("", None)
    if protocol == "superb" and "train" in sets:
        sets["train"], sets["dev"] = _draw_dev(sets["train"], seed)
    return dict(sorted(sets.items()))


def _check_fold(protocol: str, fold: int | None) -> int:
    folds = FOLDS[protocol]
    if fold is None and folds == 1:
        return 1
    if fold is None or not 1 <= fold <= folds:
        raise InputError(f"protocol {protocol} has folds 1..{folds}, got --fold {fold}")
    return fold


def _by_session(fold: int) -> Callable[[Utterance], str]:
    return lambda utterance: "test" if utterance.id.startswith(f"Ses{fold:02d}") else "train"


def _by_speaker(fold: int) -> Callable[[Utterance], str]:
    session = f"Ses{(fold + 1) // 2:02d}"
    test = session + "MF"[fold % 2]
    return lambda utterance: (
        "test" if utterance.speaker == test else "dev" if utterance.speaker.startswith(session) else "train"
    )


def _espnet(fold: int) -> Callable[[Utterance], str]:
    sets = {"Ses04M": "dev", "Ses05F": "test", "Ses05M": "test"}
    return lambda utterance: sets.get(utterance.id[:6], "train")


_PROTOCOLS = {"superb": _by_session, "emobox": _by_session, "loso10": _by_speaker, "espnet": _espnet}


def _custom(rules: Sequence[str]) -> Callable[[Utterance], str]:
    parsed = []
    for rule in rules:
        name, equals, pattern = rule.partition("=")
        try:
            parsed.append((name, re.compile(pattern)))
        except re.error as error:
            raise InputError(f"--split {rule}: not a regular expression ({error})") from error
        if not (name and equals and pattern):
            raise InputError(f"--split {rule}: expected SET=REGEX")
    if not parsed:
        raise InputError("--protocol custom needs --split SET=REGEX ...")
    return lambda utterance: next((name for name, pattern in parsed if pattern.search(utterance.id)), "")


def _draw_dev(utterances: list[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Split utterances into train and a random dev set.

    The draw depends only on the seed and the id, so that a recording is in the same set for all tasks and labels.
    """
    in_dev = [random.Random(f"{seed} {row.id}").random() < DEV_FRACTION for row in utterances]
    return (
        [row for row, dev in zip(utterances, in_dev, strict=True) if not dev],
        [row for row, dev in zip(utterances, in_dev, strict=True) if dev],
    )
