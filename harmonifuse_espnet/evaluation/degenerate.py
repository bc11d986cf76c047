"""Degenerate hypotheses: empty, looping and over-long ones, typical errors of a language model's search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_GROUP = 4  # words of a repeated group
REPETITIONS = 4  # of a group in a row, from which it is a loop
MAX_RATIO, MAX_EXTRA = 2, 5  # a hypothesis is over-long above MAX_RATIO * (words of the reference) + MAX_EXTRA


def count_degenerate(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, int]:
    """Count the empty, looping and over-long hypotheses; one hypothesis may be both looping and over-long.

    * empty: no words;
    * looping: a group of 1 to 4 words at least 4 times in a row, which the reference does not repeat in this way;
    * over-long: more than 2 n + 5 words, where n is the number of words of the reference.

    Args:
        references: Transcript by utterance id.
        hypotheses: Transcript by utterance id, for the same ids.

    Example:
        >>> count_degenerate({"a": "GO ON", "b": "YES"}, {"a": "GO ON ON ON ON", "b": ""})
        {'empty': 1, 'looping': 1, 'over_long': 0}
    """
    pairs = [(references[key].split(), text.split()) for key, text in hypotheses.items()]
    return {
        "empty": sum(not words for _, words in pairs),
        "looping": sum(bool(_loops(words) - _loops(reference)) for reference, words in pairs),
        "over_long": sum(len(words) > MAX_RATIO * len(reference) + MAX_EXTRA for reference, words in pairs),
    }


def _loops(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Return the groups that are repeated in a row, each as the first of its rotations in sorted order.

    ``A B A B ...`` and ``B A B A ...`` are the same loop, and ``A A`` is not a group: its repetition is one of ``A``.
    """
    loops = set()
    for size in range(1, MAX_GROUP + 1):
        for start in range(len(words) - REPETITIONS * size + 1):
            group = tuple(words[start : start + size])
            if tuple(words[start : start + REPETITIONS * size]) == group * REPETITIONS:
                rotations = {group[shift:] + group[:shift] for shift in range(size)}
                if len(rotations) == size:
                    loops.add(min(rotations))
    return loops
