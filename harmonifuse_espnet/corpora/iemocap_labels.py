"""IEMOCAP's emotion labels: their counts in the release, and common label sets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harmonifuse_espnet.common.errors import InputError

COUNTS = {  # label -> turns in the release
    "neu": 1708,
    "fru": 1849,
    "ang": 1103,
    "sad": 1084,
    "exc": 1041,
    "hap": 595,
    "sur": 107,
    "fea": 40,
    "oth": 3,
    "dis": 2,
    "xxx": 2507,
}
SESSION_COUNTS = {  # session -> label -> turns, as published
    1: {"ang": 229, "hap+exc": 278, "sad": 194, "neu": 384},
    2: {"ang": 137, "hap+exc": 327, "sad": 197, "neu": 362},
    3: {"ang": 240, "hap+exc": 286, "sad": 305, "neu": 320},
    4: {"ang": 327, "hap+exc": 303, "sad": 143, "neu": 258},
    5: {"ang": 170, "hap+exc": 442, "sad": 245, "neu": 384},
}
WAVS, DIALOGS = sum(COUNTS.values()), 151
LABEL_SETS = {  # name -> released label -> target
    "4": {"ang": "ang", "exc": "hap", "hap": "hap", "neu": "neu", "sad": "sad"},
    "4_no_exc": {label: label for label in ("ang", "hap", "neu", "sad")},
    "9": {label: label for label in ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "sad", "sur")},
    "all": {label: label for label in COUNTS},
}


def label_map(labels: Sequence[str]) -> dict[str, str]:
    """Return released label -> target, for the name of a label set or a list of ``RELEASED`` or ``RELEASED=TARGET``.

    Items can contain several rules, separated by spaces or commas: ``["neu, hap=joy"]`` is two rules.

    Raises:
        InputError: on an unknown or duplicate label, or if a target is another released label that is not mapped to
            itself (``exc=hap`` without ``hap``).

    Example:
        >>> label_map(["neu", "hap=joy", "exc=joy"])
        {'neu': 'neu', 'hap': 'joy', 'exc': 'joy'}
    """
    rules = " ".join(labels).replace(",", " ").split()
    if len(rules) == 1 and rules[0] in LABEL_SETS:
        return LABEL_SETS[rules[0]]
    targets: dict[str, str] = {}
    for rule in rules:
        released, equals, target = rule.partition("=")
        if released not in COUNTS:
            raise InputError(
                f"--labels {rule}: the release has no label '{released}'; choose from {', '.join(COUNTS)}, "
                f"or one of the sets {', '.join(LABEL_SETS)}"
            )
        if released in targets:
            raise InputError(f"--labels {rule}: duplicate label '{released}', already mapped to '{targets[released]}'")
        if equals and not re.fullmatch(r"\w+", target):
            raise InputError(f"--labels {rule}: expected RELEASED or RELEASED=TARGET, with one word as target")
        targets[released] = target or released
    _check_collisions(targets)
    return targets


def _check_collisions(targets: dict[str, str]) -> None:
    for released, target in targets.items():
        if target in COUNTS and targets.get(target) != target:
            use = f"used as '{targets[target]}'" if target in targets else "not used"
            raise InputError(
                f"--labels {released}={target}: '{target}' is also a released label and is {use}; "
                f"add '{target}' to merge both, or choose another target"
            )
