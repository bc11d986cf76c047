"""Scores against numbers worked out by hand, and against scikit-learn."""

from __future__ import annotations

import random

import pytest

from harmonifuse_espnet.evaluation.metrics import label_scores, matching_ids, text_errors, text_scores

LABELS = ["ang", "hap", "neu", "sad"]


def test_word_counts_worked_by_hand() -> None:
    """CAT/CAP substituted, THE deleted, NOW inserted: 3 errors in 9 words, 2 of 3 sentences wrong."""
    references = {"a": "THE CAT SAT", "b": "GO TO THE OLD MILL", "c": "YES"}
    hypotheses = {"a": "THE CAP SAT", "b": "GO TO OLD MILL NOW", "c": "YES"}
    scores = text_scores(references, hypotheses)
    counts = [scores[name] for name in ("words", "hits", "substitutions", "deletions", "insertions")]
    assert counts == [9, 7, 1, 1, 1]
    assert scores["wer"] == pytest.approx(100 * 3 / 9)
    assert scores["ser"] == pytest.approx(100 * 2 / 3)


def test_the_utterances_errors_sum_to_the_word_error_rate() -> None:
    references = {"a": "THE CAT SAT", "b": "GO TO  THE OLD MILL", "c": "YES"}
    hypotheses = {"a": "THE CAP SAT", "b": "GO TO OLD MILL NOW", "c": ""}
    errors = text_errors(references, hypotheses)
    assert errors == {"a": (1, 3), "b": (2, 5), "c": (1, 1)}
    assert text_scores(references, hypotheses)["wer"] == pytest.approx(100 * 4 / 9)


def test_character_counts_include_blanks_between_words() -> None:
    scores = text_scores({"a": "A CAT"}, {"a": "ACAP"})
    counts = [scores[f"char_{name}"] for name in ("substitutions", "deletions", "insertions")]
    assert (scores["characters"], counts) == (5, [1, 1, 0])
    assert scores["cer"] == pytest.approx(40.0)


def test_empty_hypothesis_is_all_deletions() -> None:
    scores = text_scores({"a": "ONE TWO", "b": "SIX"}, {"a": "", "b": "SIX"})
    assert (scores["deletions"], scores["insertions"], scores["substitutions"]) == (2, 0, 0)
    assert scores["wer"] == pytest.approx(100 * 2 / 3)
    assert scores["char_deletions"] == len("ONE TWO")


def test_only_the_words_count_not_the_blanks_between_them() -> None:
    scores = text_scores({"a": "ONE  TWO "}, {"a": " ONE TWO"})
    assert (scores["wer"], scores["cer"], scores["ser"]) == (0.0, 0.0, 0.0)


def test_wer_may_exceed_100_percent() -> None:
    assert text_scores({"a": "ONE"}, {"a": "ONE TWO SIX"})["wer"] == pytest.approx(200.0)


def test_empty_reference_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="1 references are empty: b; drop"):
        text_scores({"a": "ONE", "b": " "}, {"a": "ONE", "b": "TWO"})


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (dict.fromkeys("abcdefg", "x"), {"a": "x"}, r"6 of 7 utterances have no answer: b, c, d, e, f, \.\.\."),
        ({"a": "x"}, {"a": "x", "z": "x"}, "1 answers are to utterances that the reference lacks: z"),
        ({}, {}, "no utterance to score"),
    ],
)
def test_ids_must_match(references: dict[str, str], hypotheses: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matching_ids(references, hypotheses)


def test_label_scores_worked_by_hand() -> None:
    """ang 1/2, hap 1/1, sad 0/1 right; neu is absent from the reference and answered once."""
    references = {"a": "ang", "b": "ang", "c": "hap", "d": "sad"}
    hypotheses = {"a": "ang", "b": "hap", "c": "hap", "d": "neu"}
    scores = label_scores(references, hypotheses, LABELS)
    assert scores["wa"] == pytest.approx(50.0)
    assert scores["ua"] == pytest.approx((50 + 100 + 0) / 3)
    assert scores["macro_f1"] == pytest.approx(100 * (2 / 3 + 2 / 3 + 0) / 3)
    assert scores["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert scores["recall"] == {"ang": 50.0, "hap": 100.0, "neu": None, "sad": 0.0}


def test_wa_follows_the_crowd_and_ua_does_not() -> None:
    """Always answering the commonest class is right 9 times in 10, but recalls one class of two."""
    references = {f"{n}": "neu" if n < 9 else "sad" for n in range(10)}
    scores = label_scores(references, dict.fromkeys(references, "neu"), LABELS)
    assert (scores["wa"], scores["ua"]) == (pytest.approx(90.0), pytest.approx(50.0))


def test_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(0)
    references = {f"u{n}": rng.choice(LABELS) for n in range(200)}
    hypotheses = {key: label if rng.random() < 0.6 else rng.choice(LABELS) for key, label in references.items()}
    expected, answered = list(references.values()), list(hypotheses.values())
    scores = label_scores(references, hypotheses, LABELS)
    assert scores["wa"] == pytest.approx(100 * metrics.accuracy_score(expected, answered))
    assert scores["ua"] == pytest.approx(100 * metrics.balanced_accuracy_score(expected, answered))
    assert scores["macro_f1"] == pytest.approx(100 * metrics.f1_score(expected, answered, average="macro"))
    assert scores["confusion"] == metrics.confusion_matrix(expected, answered, labels=LABELS).tolist()


@pytest.mark.parametrize(("reference", "answer", "kind"), [("fru", "ang", "reference"), ("ang", "", "answer")])
def test_unknown_label_is_named_with_its_utterance(reference: str, answer: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"u1: {kind} '.*' is not one of the labels ang, hap, neu, sad"):
        label_scores({"u1": reference}, {"u1": answer}, LABELS)
