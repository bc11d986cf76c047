"""Metrics: word, character and sentence error rates; weighted and unweighted accuracy, and macro F1.

Functions take references and hypotheses by utterance id. Rates are in percent. Errors are counted once, by
:func:`count_errors`: the counts of a test set are the sums of those of its utterances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
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


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of the alignment of a hypothesis with its reference, in words or in characters."""

    correct: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """Length of the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Number of substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors in percent of the length of the reference."""
        return 100.0 * self.errors / self.total


@dataclass(frozen=True)
class TextErrors:
    """Errors of one hypothesis, or of several."""

    words: ErrorCounts
    characters: ErrorCounts


def count_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, TextErrors]:
    """Count the errors of each utterance, in words and in characters.

    Words are separated by any Unicode white space. Between two words, the characters include one space. An empty
    hypothesis counts as deletions.

    Raises:
        InputError: if the ids differ or a reference is empty.

    Example:
        >>> errors = count_errors({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""})
        >>> {key: (found.words.errors, found.words.total) for key, found in errors.items()}
        {'a': (1, 3), 'b': (1, 1)}
    """
    ids = matching_ids(references, hypotheses)
    empty = [key for key in ids if not references[key].split()]
    if empty:
        raise InputError(
            f"{len(empty)} references are empty: {_join_first(empty)}; remove these utterances from the test set"
        )
    errors = {}
    for key in ids:
        reference, hypothesis = (" ".join(texts[key].split()) for texts in (references, hypotheses))
        words, characters = jiwer.process_words(reference, hypothesis), jiwer.process_characters(reference, hypothesis)
        errors[key] = TextErrors(_error_counts(words), _error_counts(characters))
    return errors


def text_scores(errors: Mapping[str, TextErrors]) -> dict[str, Any]:
    """Compute word, character and sentence error rates from the errors of at least one utterance.

    ``wer = (substitutions + deletions + insertions) / words``; ``cer`` is the same over characters;
    ``sentence_error_rate`` is the share of sentences with an error. The counts are the sums over the utterances.

    Returns:
        ``wer, cer, sentence_error_rate`` in percent; ``words, correct, substitutions, deletions, insertions``;
        ``characters`` and ``char_substitutions, char_deletions, char_insertions``.

    Example:
        >>> scores = text_scores(count_errors({"a": "GO ON NOW", "b": "STOP"}, {"a": "GO IN NOW", "b": ""}))
        >>> scores["wer"], scores["substitutions"], scores["deletions"], scores["words"], scores["sentence_error_rate"]
        (50.0, 1, 1, 4, 100.0)
    """
    words = _sum_counts(found.words for found in errors.values())
    characters = _sum_counts(found.characters for found in errors.values())
    return {
        "wer": words.rate,
        "cer": characters.rate,
        "sentence_error_rate": 100.0 * sum(found.characters.errors > 0 for found in errors.values()) / len(errors),
        "words": words.total,
        "correct": words.correct,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "characters": characters.total,
        "char_substitutions": characters.substitutions,
        "char_deletions": characters.deletions,
        "char_insertions": characters.insertions,
    }


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


def _error_counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)


def _sum_counts(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return ErrorCounts(*(sum(column) for column in zip(*map(astuple, counts), strict=True)))


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
