"""Metrics: word, character and sentence error rates; weighted and unweighted accuracy, and macro F1.

Functions take references and hypotheses by utterance id. Rates are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jiwer

from harmonifuse_espnet.common.errors import InputError


def matching_ids(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> list[str]:
    """Return the sorted utterance ids, which must be the same in both mappings.

    Raises:
        InputError: if there are no utterances, or an id is in one mapping only; the message names some of these ids.
    """
    missing, unknown = sorted(set(references) - set(hypotheses)), sorted(set(hypotheses) - set(references))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(references)} utterances have no hypothesis: {_join_first(missing)}; decode again"
        )
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(hypotheses)} hypotheses have no reference: {_join_first(unknown)}; decode again"
        )
    if not references:
        raise InputError("no utterances to score")
    return sorted(references)


def text_scores(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, Any]:
    """Compute word, character and sentence error rates, with their counts.

    ``wer = (substitutions + deletions + insertions) / words``; ``cer`` is the same over characters, including one
    space between two words; ``sentence_error_rate`` is the share of sentences with an error. An empty hypothesis counts
    as deletions.

    Returns:
        ``wer, cer, sentence_error_rate`` in percent; ``words, correct, substitutions, deletions, insertions``;
        ``characters`` and ``char_substitutions, char_deletions, char_insertions``.

    Raises:
        InputError: if the ids differ or a reference is empty.

    Example:
        >>> scores = text_scores({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""})
        >>> scores["wer"], scores["substitutions"], scores["deletions"], scores["words"], scores["sentence_error_rate"]
        (50.0, 1, 1, 4, 100.0)
    """
    ids = matching_ids(references, hypotheses)
    reference = [" ".join(references[key].split()) for key in ids]
    hypothesis = [" ".join(hypotheses[key].split()) for key in ids]
    empty = [key for key, text in zip(ids, reference, strict=True) if not text]
    if empty:
        raise InputError(
            f"{len(empty)} references are empty: {_join_first(empty)}; remove these utterances from the test set"
        )
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return {
        "wer": 100.0 * words.wer,
        "cer": 100.0 * characters.cer,
        "sentence_error_rate": 100.0 * sum(a != b for a, b in zip(reference, hypothesis, strict=True)) / len(ids),
        "words": words.hits + words.substitutions + words.deletions,
        "correct": words.hits,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "characters": characters.hits + characters.substitutions + characters.deletions,
        "char_substitutions": characters.substitutions,
        "char_deletions": characters.deletions,
        "char_insertions": characters.insertions,
    }


def count_word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Count the errors (substitutions, deletions and insertions) and words of each utterance.

    The WER is the sum of the errors over the sum of the words.

    Raises:
        InputError: if the ids differ.

    Example:
        >>> count_word_errors({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""})
        {'a': (1, 3), 'b': (1, 1)}
    """
    counts = {}
    for key in matching_ids(references, hypotheses):
        words = jiwer.process_words(references[key], hypotheses[key])
        errors = words.substitutions + words.deletions + words.insertions
        counts[key] = errors, words.hits + words.substitutions + words.deletions
    return counts


def label_scores(references: Mapping[str, str], hypotheses: Mapping[str, str], labels: Sequence[str]) -> dict[str, Any]:
    """Compute weighted and unweighted accuracy, macro F1 and the confusion matrix of labels.

    ``wa`` (weighted accuracy) is the share of correct labels, ``ua`` (unweighted accuracy) the mean of the recalls of
    the classes, ``macro_f1`` the mean of their F1 = 2 TP / (2 TP + FP + FN). A class without references has no recall
    (``None``) and is left out of both means; a hypothesis of this class is an error.

    Returns:
        ``wa, ua, macro_f1`` in percent; ``labels``; ``confusion``, with a row for each reference and a column for each
        hypothesis in the order of ``labels``; ``recall`` by label, in percent.

    Raises:
        InputError: if the ids differ, or a hypothesis or a reference is not one of the labels.

    Example:
        >>> references = {"a": "ang", "b": "ang", "c": "sad"}
        >>> scores = label_scores(references, {"a": "ang", "b": "sad", "c": "sad"}, ["ang", "sad"])
        >>> scores["ua"], scores["confusion"], scores["recall"]
        (75.0, [[1, 1], [0, 1]], {'ang': 50.0, 'sad': 100.0})
    """
    confusion = _confusion(references, hypotheses, labels)
    correct = [row[position] for position, row in enumerate(confusion)]
    in_reference = [sum(row) for row in confusion]
    in_hypothesis = [sum(column) for column in zip(*confusion, strict=True)]
    present = [position for position, count in enumerate(in_reference) if count]
    recall = {position: 100.0 * correct[position] / in_reference[position] for position in present}
    f1 = [200.0 * correct[position] / (in_reference[position] + in_hypothesis[position]) for position in present]
    return {
        "wa": 100.0 * sum(correct) / sum(in_reference),
        "ua": sum(recall.values()) / len(present),
        "macro_f1": sum(f1) / len(present),
        "labels": list(labels),
        "confusion": confusion,
        "recall": {label: recall.get(position) for position, label in enumerate(labels)},
    }


def _confusion(references: Mapping[str, str], hypotheses: Mapping[str, str], labels: Sequence[str]) -> list[list[int]]:
    index = {label: position for position, label in enumerate(labels)}
    confusion = [[0] * len(index) for _ in index]
    for key in matching_ids(references, hypotheses):
        for name, label in (("reference", references[key]), ("hypothesis", hypotheses[key])):
            if label not in index:
                raise InputError(f"{key}: {name} '{label}' is not one of the labels {', '.join(labels)}")
        confusion[index[references[key]]][index[hypotheses[key]]] += 1
    return confusion


def _join_first(ids: Sequence[str], limit: int = 5) -> str:
    return ", ".join(ids[:limit]) + (", ..." if len(ids) > limit else "")
