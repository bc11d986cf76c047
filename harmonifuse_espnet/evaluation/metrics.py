"""How right the answers are: error rates of words and characters, and accuracies of labels.

Everything here is a pure function of two mappings, utterance id -> answer. Rates are percentages, 0 to 100; counts are
integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jiwer

from harmonifuse_espnet.common.errors import InputError


def matching_ids(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> list[str]:
    """The ids of both mappings, sorted.

    Raises:
        ValueError: if there is none, or if an id is in one mapping only; the message names some of them.
    """
    missing, unknown = sorted(set(references) - set(hypotheses)), sorted(set(hypotheses) - set(references))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(references)} utterances have no answer: {_some(missing)}; decode again"
        )
    if unknown:
        raise InputError(f"{len(unknown)} answers are to utterances that the reference lacks: {_some(unknown)}")
    if not references:
        raise InputError("there is no utterance to score")
    return sorted(references)


def text_scores(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, Any]:
    """Word, character and sentence error rates, with their counts.

    ``wer = (substitutions + deletions + insertions) / words``; ``cer`` likewise, where one blank between two words
    counts as a character; ``ser`` is the share of sentences with any word wrong. An empty hypothesis is all deletions.

    Returns:
        ``wer, cer, ser`` in percent; ``words, hits, substitutions, deletions, insertions``; ``characters`` and
        ``char_substitutions, char_deletions, char_insertions``.

    Raises:
        ValueError: if the ids differ or a reference is empty.

    Example:
        >>> scores = text_scores({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""})
        >>> scores["wer"], scores["substitutions"], scores["deletions"], scores["words"], scores["ser"]
        (50.0, 1, 1, 4, 100.0)
    """
    ids = matching_ids(references, hypotheses)
    expected = [" ".join(references[key].split()) for key in ids]
    answered = [" ".join(hypotheses[key].split()) for key in ids]
    empty = [key for key, text in zip(ids, expected, strict=True) if not text]
    if empty:
        raise InputError(f"{len(empty)} references are empty: {_some(empty)}; drop these utterances from the test set")
    words = jiwer.process_words(expected, answered)
    characters = jiwer.process_characters(expected, answered)
    return {
        "wer": 100.0 * words.wer,
        "cer": 100.0 * characters.cer,
        "ser": 100.0 * sum(a != b for a, b in zip(expected, answered, strict=True)) / len(ids),
        "words": words.hits + words.substitutions + words.deletions,
        "hits": words.hits,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "characters": characters.hits + characters.substitutions + characters.deletions,
        "char_substitutions": characters.substitutions,
        "char_deletions": characters.deletions,
        "char_insertions": characters.insertions,
    }


def text_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Errors (substitutions, deletions and insertions) and words of each utterance; their sums make the WER.

    Raises:
        ValueError: if the ids differ.

    Example:
        >>> text_errors({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""})
        {'a': (1, 3), 'b': (1, 1)}
    """
    counts = {}
    for key in matching_ids(references, hypotheses):
        words = jiwer.process_words(references[key], hypotheses[key])
        errors = words.substitutions + words.deletions + words.insertions
        counts[key] = errors, words.hits + words.substitutions + words.deletions
    return counts


def label_scores(references: Mapping[str, str], hypotheses: Mapping[str, str], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracies of answers that are one label each.

    ``wa`` (weighted accuracy) is the share of right answers, ``ua`` (unweighted) the mean of the classes' recalls,
    ``macro_f1`` the mean of the classes' F1 = 2 TP / (2 TP + FP + FN). Classes that the reference lacks have no recall
    (``None``) and are left out of both means; answers in such a class are still wrong answers.

    Returns:
        ``wa, ua, macro_f1`` in percent, ``labels``, ``confusion`` (rows are the reference, columns the answer, both in
        the order of ``labels``), and ``recall`` by label, in percent.

    Raises:
        ValueError: if the ids differ, or an answer or a reference is not one of the labels.

    Example:
        >>> references = {"a": "ang", "b": "ang", "c": "sad"}
        >>> scores = label_scores(references, {"a": "ang", "b": "sad", "c": "sad"}, ["ang", "sad"])
        >>> scores["ua"], scores["confusion"], scores["recall"]
        (75.0, [[1, 1], [0, 1]], {'ang': 50.0, 'sad': 100.0})
    """
    index = {label: position for position, label in enumerate(labels)}
    confusion = [[0] * len(index) for _ in index]
    for key in matching_ids(references, hypotheses):
        for kind, label in (("reference", references[key]), ("answer", hypotheses[key])):
            if label not in index:
                raise InputError(f"{key}: {kind} '{label}' is not one of the labels {', '.join(labels)}")
        confusion[index[references[key]]][index[hypotheses[key]]] += 1
    right = [confusion[position][position] for position in range(len(index))]
    expected = [sum(row) for row in confusion]
    answered = [sum(column) for column in zip(*confusion, strict=True)]
    present = [position for position, count in enumerate(expected) if count]
    recall = {position: 100.0 * right[position] / expected[position] for position in present}
    f1 = [200.0 * right[position] / (expected[position] + answered[position]) for position in present]
    return {
        "wa": 100.0 * sum(right) / sum(expected),
        "ua": sum(recall.values()) / len(present),
        "macro_f1": sum(f1) / len(present),
        "labels": list(labels),
        "confusion": confusion,
        "recall": {label: recall.get(position) for label, position in index.items()},
    }


def _some(ids: Sequence[str], limit: int = 5) -> str:
    return ", ".join(ids[:limit]) + (", ..." if len(ids) > limit else "")
