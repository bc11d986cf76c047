"""Empty, looping and over-long hypotheses, counted by hand."""

from __future__ import annotations

import pytest

from harmonifuse_espnet.evaluation.degenerate import count_degenerate


def degenerate(reference: str, hypothesis: str) -> tuple[int, int, int]:
    """Whether a hypothesis is empty, looping, over-long."""
    counts = count_degenerate({"a": reference}, {"a": hypothesis})
    return counts["empty"], counts["looping"], counts["over_long"]


@pytest.mark.parametrize("hypothesis", ["", " ", "\u3000\t"])
def test_a_hypothesis_without_words_is_empty(hypothesis: str) -> None:
    assert degenerate("GO ON", hypothesis) == (1, 0, 0)


@pytest.mark.parametrize(
    ("hypothesis", "loops"),
    [
        ("GO GO GO", 0),  # three times
        ("GO GO GO GO", 1),
        ("NOW GO GO GO GO ON", 1),  # in the middle
        ("GO ON GO ON GO ON GO", 0),  # three times and a half
        ("GO ON GO ON GO ON GO ON", 1),
        ("A B C A B C A B C A B C", 1),
        ("A B C D A B C D A B C D A B C D", 1),
        ("A B C D E A B C D E A B C D E A B C D E", 0),  # a group of five words
        ("A B A C A B A C A B A C A B A D", 0),  # broken in the last repetition
    ],
)
def test_a_group_of_up_to_four_words_four_times_in_a_row_is_a_loop(hypothesis: str, loops: int) -> None:
    reference = "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT"
    assert degenerate(reference, hypothesis) == (0, loops, 0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "loops"),
    [
        ("NINE NINE NINE NINE", "NINE NINE NINE NINE", 0),
        ("NINE NINE NINE NINE", "NINE NINE NINE NINE NINE NINE NINE NINE NINE", 0),  # the same loop, only longer
        ("NINE NINE NINE", "NINE NINE NINE NINE", 1),  # no loop in the reference
        ("NINE NINE NINE NINE", "FIVE FIVE FIVE FIVE", 1),  # another loop
        ("A B A B A B A B", "B A B A B A B A B", 0),  # the same loop from its second word
    ],
)
def test_a_repetition_of_the_reference_is_no_loop(reference: str, hypothesis: str, loops: int) -> None:
    assert degenerate(reference, hypothesis) == (0, loops, 0)


@pytest.mark.parametrize(("words", "over_long"), [(11, 0), (12, 1)])
def test_over_long_is_more_than_twice_the_reference_and_five_words(words: int, over_long: int) -> None:
    hypothesis = " ".join(f"W{number}" for number in range(words))  # 11 = 2 * 3 + 5
    assert degenerate("ONE TWO THREE", hypothesis) == (0, 0, over_long)


def test_every_hypothesis_is_counted_and_may_be_both_looping_and_over_long() -> None:
    references = {"a": "GO ON", "b": "YES", "c": "NO"}
    hypotheses = {"a": "ON " * 10, "b": "", "c": "NO"}
    assert count_degenerate(references, hypotheses) == {"empty": 1, "looping": 1, "over_long": 1}
