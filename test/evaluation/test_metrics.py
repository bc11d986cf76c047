"""Scores of known cases, and agreement with scikit-learn."""

from __future__ import annotations

import random

import jiwer
import pytest

from harmonifuse_espnet.evaluation.metrics import (
    ErrorCounts,
    TextErrors,
    count_errors,
    label_scores,
    matching_ids,
    text_scores,
)

LABELS = ["ang", "hap", "neu", "sad"]


def test_word_counts_of_a_known_case() -> None:
    """CAT/CAP substituted, THE deleted, NOW inserted: 3 errors in 9 words, in 2 of 3 sentences."""
    references = {"a": "THE CAT SAT", "b": "GO TO THE OLD MILL", "c": "YES"}
    hypotheses = {"a": "THE CAP SAT", "b": "GO TO OLD MILL NOW", "c": "YES"}
    scores = text_scores(count_errors(references, hypotheses))
    counts = [scores[name] for name in ("words", "correct", "substitutions", "deletions", "insertions")]
    assert counts == [9, 7, 1, 1, 1]
    assert scores["wer"] == pytest.approx(100 * 3 / 9)
    assert scores["sentence_error_rate"] == pytest.approx(100 * 2 / 3)


def test_word_errors_of_all_utterances_give_the_word_error_rate() -> None:
    references = {"a": "THE CAT SAT", "b": "GO TO  THE OLD MILL", "c": "YES"}
    hypotheses = {"a": "THE CAP SAT", "b": "GO TO OLD MILL NOW", "c": ""}
    errors = count_errors(references, hypotheses)
    assert {key: (found.words.errors, found.words.total) for key, found in errors.items()} == {
        "a": (1, 3),
        "b": (2, 5),
        "c": (1, 1),
    }
    assert text_scores(count_errors(references, hypotheses))["wer"] == pytest.approx(100 * 4 / 9)


def test_character_counts_include_spaces_between_words() -> None:
    scores = text_scores(count_errors({"a": "A CAT"}, {"a": "ACAP"}))
    counts = [scores[f"char_{name}"] for name in ("substitutions", "deletions", "insertions")]
    assert (scores["characters"], counts) == (5, [1, 1, 0])
    assert scores["cer"] == pytest.approx(40.0)


def test_an_empty_hypothesis_counts_as_deletions() -> None:
    scores = text_scores(count_errors({"a": "ONE TWO", "b": "SIX"}, {"a": "", "b": "SIX"}))
    assert (scores["deletions"], scores["insertions"], scores["substitutions"]) == (2, 0, 0)
    assert scores["wer"] == pytest.approx(100 * 2 / 3)
    assert scores["char_deletions"] == len("ONE TWO")


def test_repeated_and_outer_spaces_do_not_count() -> None:
    scores = text_scores(count_errors({"a": "ONE  TWO "}, {"a": " ONE TWO"}))
    assert (scores["wer"], scores["cer"], scores["sentence_error_rate"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\u0085", "\t", "\x1f", "\r\n"])
def test_any_unicode_white_space_separates_words(space: str) -> None:
    errors = count_errors({"a": f"ONE{space}TWO"}, {"a": "ONE TWO SIX"})
    assert errors == {"a": TextErrors(ErrorCounts(2, 0, 0, 1), ErrorCounts(7, 0, 0, 4))}


def test_a_zero_width_space_is_a_character_of_its_word() -> None:
    errors = count_errors({"a": "ONE\u200bTWO"}, {"a": "ONE TWO"})
    assert errors == {"a": TextErrors(ErrorCounts(0, 1, 0, 1), ErrorCounts(6, 1, 0, 0))}


def test_the_scores_of_a_test_set_are_the_sums_of_its_utterances_for_any_text() -> None:
    """500 test sets of random text; the counts are also those of jiwer for all utterances in one call."""
    rng = random.Random(17)
    alphabet = "aabbZ   \t\n\r\x0b\x1c\x85\u00a0\u2028\u3000\u200b\u0301\u00e9\ufeff\U0001f600'-"

    def draw() -> str:
        return "".join(rng.choices(alphabet, k=rng.randrange(25)))

    for _ in range(500):
        references = {f"u{number}": draw() + "a" + draw() for number in range(rng.randrange(1, 6))}
        hypotheses = {key: draw() if rng.random() < 0.7 else text for key, text in references.items()}
        errors = count_errors(references, hypotheses)
        scores = text_scores(errors)
        for unit, prefix, counts in (
            ("words", "", [found.words for found in errors.values()]),
            ("characters", "char_", [found.characters for found in errors.values()]),
        ):
            kinds = ("substitutions", "deletions", "insertions")
            assert [scores[prefix + kind] for kind in kinds] == [
                sum(getattr(n, kind) for n in counts) for kind in kinds
            ]
            assert scores[unit] == sum(count.total for count in counts)
            rate = scores["wer" if unit == "words" else "cer"]
            assert rate == pytest.approx(100 * sum(count.errors for count in counts) / scores[unit])
        pairs = [(references[key].split(), hypotheses[key].split()) for key in errors]
        joined = [" ".join(words) for words, _ in pairs], [" ".join(words) for _, words in pairs]
        expected = jiwer.process_words(*joined)
        assert scores["words"] == sum(len(words) for words, _ in pairs)
        assert scores["wer"] == pytest.approx(100 * expected.wer)
        assert scores["cer"] == pytest.approx(100 * jiwer.process_characters(*joined).cer)
        different = sum(reference != hypothesis for reference, hypothesis in pairs)
        assert scores["sentence_error_rate"] == pytest.approx(100 * different / len(pairs))


def test_wer_may_exceed_100_percent() -> None:
    assert text_scores(count_errors({"a": "ONE"}, {"a": "ONE TWO SIX"}))["wer"] == pytest.approx(200.0)


def test_empty_reference_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="1 references are empty: b; remove"):
        text_scores(count_errors({"a": "ONE", "b": " "}, {"a": "ONE", "b": "TWO"}))


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (dict.fromkeys("abcdefg", "x"), {"a": "x"}, r"6 of 7 utterances have no hypothesis: b, c, d, e, f, \.\.\."),
        ({"a": "x"}, {"a": "x", "z": "x"}, "1 of 2 hypotheses have no reference: z"),
        ({}, {}, "no utterances to score"),
    ],
)
def test_ids_must_match(references: dict[str, str], hypotheses: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matching_ids(references, hypotheses)


def test_label_scores_of_a_known_case() -> None:
    """ang 1/2, hap 1/1, sad 0/1 correct; neu has no reference and one hypothesis."""
    references = {"a": "ang", "b": "ang", "c": "hap", "d": "sad"}
    hypotheses = {"a": "ang", "b": "hap", "c": "hap", "d": "neu"}
    scores = label_scores(references, hypotheses, LABELS)
    assert scores["wa"] == pytest.approx(50.0)
    assert scores["ua"] == pytest.approx((50 + 100 + 0) / 3)
    assert scores["macro_f1"] == pytest.approx(100 * (2 / 3 + 2 / 3 + 0) / 3)
    assert scores["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert scores["recall"] == {"ang": 50.0, "hap": 100.0, "neu": None, "sad": 0.0}


def test_wa_depends_on_class_sizes_and_ua_does_not() -> None:
    """A constant label is correct for 9 utterances of 10, but recalls one class of two."""
    references = {f"{n}": "neu" if n < 9 else "sad" for n in range(10)}
    scores = label_scores(references, dict.fromkeys(references, "neu"), LABELS)
    assert (scores["wa"], scores["ua"]) == (pytest.approx(90.0), pytest.approx(50.0))


def test_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(0)
    references = {f"u{n}": rng.choice(LABELS) for n in range(200)}
    hypotheses = {key: label if rng.random() < 0.6 else rng.choice(LABELS) for key, label in references.items()}
    reference, hypothesis = list(references.values()), list(hypotheses.values())
    scores = label_scores(references, hypotheses, LABELS)
    assert scores["wa"] == pytest.approx(100 * metrics.accuracy_score(reference, hypothesis))
    assert scores["ua"] == pytest.approx(100 * metrics.balanced_accuracy_score(reference, hypothesis))
    assert scores["macro_f1"] == pytest.approx(100 * metrics.f1_score(reference, hypothesis, average="macro"))
    assert scores["confusion"] == metrics.confusion_matrix(reference, hypothesis, labels=LABELS).tolist()


@pytest.mark.parametrize(("reference", "hypothesis", "kind"), [("fru", "ang", "reference"), ("ang", "", "hypothesis")])
def test_unknown_label_is_named_with_its_utterance(reference: str, hypothesis: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"u1: {kind} '.*' is not one of the labels ang, hap, neu, sad"):
        label_scores({"u1": reference}, {"u1": hypothesis}, LABELS)
