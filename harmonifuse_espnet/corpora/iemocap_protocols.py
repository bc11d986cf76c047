"""How papers split IEMOCAP. Scores of different protocols must never stand in one table."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import Utterance

FOLDS = {"superb": 5, "emobox": 5, "loso10": 10, "espnet": 1}
VALID_RATIO = 0.2
Sets = dict[str, list[Utterance]]


def split(utterances: Sequence[Utterance], protocol: str, fold: int | None, seed: int, rules: Sequence[str]) -> Sets:
    """The sets of a protocol, sets without utterances left out.

    ``superb``: test is session ``fold``, dev a random part, about 20 %, of the other sessions (so it shares speakers
    with train). ``emobox``: the same without dev. ``loso10``: test is speaker ``fold`` (Ses01F, Ses01M, Ses02F, ...),
    dev the session's other speaker. ``espnet``: test session 5, dev the dialogs Ses04M, whoever speaks in them.
    ``custom``: the ``rules``.

    Raises:
        ValueError: if the fold is missing, superfluous or out of range, or a rule is not ``SET=REGEX``.
    """
    if protocol == "custom":
        name_of = _custom(rules)
    elif rules:
        raise InputError(f"--split goes with --protocol custom, got --protocol {protocol}")
    else:
        name_of = _PROTOCOLS[protocol](_fold(protocol, fold))
    sets: Sets = {}
    for utterance in utterances:
        sets.setdefault(name_of(utterance), []).append(utterance)
    sets.pop("", None)
    if protocol == "superb" and "train" in sets:
        sets["train"], sets["dev"] = _draw(sets["train"], seed)
    return dict(sorted(sets.items()))


def _fold(protocol: str, fold: int | None) -> int:
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
        raise InputError("--protocol custom wants --split SET=REGEX ...")
    return lambda utterance: next((name for name, pattern in parsed if pattern.search(utterance.id)), "")


def _draw(utterances: list[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances less a random part, and that part.

    Each id is drawn by itself, so that a recording is on the same side whichever task and labels it is taken for.
    """
    drawn = [random.Random(f"{seed} {row.id}").random() < VALID_RATIO for row in utterances]
    return (
        [row for row, chosen in zip(utterances, drawn, strict=True) if not chosen],
        [row for row, chosen in zip(utterances, drawn, strict=True) if chosen],
    )
