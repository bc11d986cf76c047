"""IEMOCAP's labels: how many turns the release has of each, and which of them an experiment takes under which name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harmonifuse_espnet.common.errors import InputError

COUNTS = {
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
SESSION_COUNTS = {
    1: {"ang": 229, "hap+exc": 278, "sad": 194, "neu": 384},
    2: {"ang": 137, "hap+exc": 327, "sad": 197, "neu": 362},
    3: {"ang": 240, "hap+exc": 286, "sad": 305, "neu": 320},
    4: {"ang": 327, "hap+exc": 303, "sad": 143, "neu": 258},
    5: {"ang": 170, "hap+exc": 442, "sad": 245, "neu": 384},
}
WAVS, DIALOGS = sum(COUNTS.values()), 151
LABEL_SETS = {
    "4": {"ang": "ang", "exc": "hap", "hap": "hap", "neu": "neu", "sad": "sad"},
    "4_no_exc": {label: label for label in ("ang", "hap", "neu", "sad")},
    "9": {label: label for label in ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "sad", "sur")},
    "all": {label: label for label in COUNTS},
}


def label_map(labels: Sequence[str]) -> dict[str, str]:
    """Released label -> answer, of a set by its name or of rules ``RELEASED`` and ``RELEASED=ANSWER``.

    Blanks and commas inside an item separate as well: ``["neu, hap=joy"]`` are two rules.

    Raises:
        ValueError: on a label that the release does not have or that is there twice, and on an answer that is another
            released label's name, unless that label is taken under its own name (``hap exc=hap``).

    Example:
        >>> label_map(["neu", "hap=joy", "exc=joy"])
        {'neu': 'neu', 'hap': 'joy', 'exc': 'joy'}
    """
    rules = " ".join(labels).replace(",", " ").split()
    if len(rules) == 1 and rules[0] in LABEL_SETS:
        return LABEL_SETS[rules[0]]
    answers: dict[str, str] = {}
    for rule in rules:
        released, equals, answer = rule.partition("=")
        if released not in COUNTS:
            raise InputError(
                f"--labels {rule}: the release has no label '{released}'; it has {', '.join(COUNTS)}; "
                f"or name one set: {', '.join(LABEL_SETS)}"
            )
        if released in answers:
            raise InputError(f"--labels {rule}: '{released}' is there twice, before as '{answers[released]}'")
        if equals and not re.fullmatch(r"\w+", answer):
            raise InputError(f"--labels {rule}: expected RELEASED or RELEASED=ANSWER, the answer one word")
        answers[released] = answer or released
    _refuse_collisions(answers)
    return answers


def _refuse_collisions(answers: dict[str, str]) -> None:
    for released, answer in answers.items():
        if answer in COUNTS and answers.get(answer) != answer:
            there = f"taken as '{answers[answer]}'" if answer in answers else "left out"
            raise InputError(
                f"--labels {released}={answer}: '{answer}' is itself a label of the release, and {there}; "
                f"add '{answer}' to merge both, or choose another word than '{answer}'"
            )
