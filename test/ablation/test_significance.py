"""Paired differences: exact for few speakers, calibrated for many; Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harmonifuse_espnet.ablation.significance import (
    Difference,
    holm,
    paired_difference,
    rates,
    seed_spread,
    smallest_p,
)

SPEAKERS = 10
Draw = Callable[[np.random.Generator, float], tuple[np.ndarray, np.ndarray, np.ndarray]]


def one(*values: float) -> np.ndarray:
    """Values of one seed and one class by speaker (1, speakers, 1)."""
    return np.array(values, dtype=float)[None, :, None]


def ones(speakers: int) -> np.ndarray:
    return np.ones((speakers, 1))


def test_identical_systems_do_not_differ() -> None:
    errors = np.random.default_rng(0).poisson(1.0, (3, 60, 1)).astype(float)
    same = paired_difference(errors, errors, np.full((60, 1), 6.0))
    assert (same.value, same.low, same.high, same.p, same.significant) == (0.0, 0.0, 0.0, 1.0, False)


def test_the_difference_is_that_of_pooled_rates() -> None:
    """3 errors against 1, each in 8 words; the speaker with more words has more weight."""
    sizes = np.array([[2.0], [6.0]])
    system, reference = one(0, 3), one(1, 0)
    assert rates(system, sizes) == [37.5] and rates(reference, sizes) == [12.5]
    difference = paired_difference(system, reference, sizes)
    assert difference.value == pytest.approx(25.0)
    assert (difference.low, difference.high) == (-50.0, 50.0)  # one speaker drawn twice: -1 / 2 or 3 / 6


def test_the_unweighted_accuracy_is_the_mean_of_the_recalls_of_the_labels_in_a_resample() -> None:
    """Speaker 0 has 4 utterances of label 0 and 1 of label 1, speaker 1 has 4 of label 0 only.

    The system is correct in 4, 1 and 0, the reference in 2, 1 and 0: the recalls are 4 / 8 and 1 against 2 / 8 and 1.
    With speaker 0 drawn twice, they are 8 / 8 and 1 against 4 / 8 and 1; with speaker 1 drawn twice, 0 against 0 of
    label 0, without label 1.
    """
    sizes = np.array([[4.0, 1.0], [4.0, 0.0]])
    system, reference = np.array([[[4.0, 1.0], [0.0, 0.0]]]), np.array([[[2.0, 1.0], [0.0, 0.0]]])
    assert rates(system, sizes) == [75.0] and rates(reference, sizes) == [62.5]
    difference = paired_difference(system, reference, sizes)
    assert (difference.value, difference.low, difference.high) == (12.5, 0.0, 25.0)
    other = paired_difference(np.array([[[4.0, 1.0], [4.0, 0.0]]]), np.array([[[4.0, 0.0], [0.0, 0.0]]]), sizes)
    assert (other.value, other.low, other.high) == (
        75.0,
        50.0,
        100.0,
    )  # of label 0: 8 / 8 against 0 / 8, not half of it


def test_few_sign_flips_are_enumerated() -> None:
    """Two of the 2^5 sign flips of five equal differences have a sum as large, p = 2 / 32; of 1, 1, -1, all 8 of 8."""
    assert paired_difference(one(1, 1, 1, 1, 1), one(0, 0, 0, 0, 0), ones(5)).p == 2 / 32
    assert paired_difference(one(1, 1, 0), one(0, 0, 1), ones(3)).p == 1.0
    assert paired_difference(one(2, 1, 0), one(0, 0, 0), ones(3)).p == 0.5  # +-(2 + 1) of four
    assert paired_difference(one(0.1, 0.2, 0.3), one(0, 0, 0), ones(3)).p == 2 / 8
    assert paired_difference(one(0.1, 0.2, 0.3, 0), one(0, 0, 0, 0.6), ones(4)).p == 1.0  # sums of rounded numbers


def test_many_sign_flips_are_drawn() -> None:
    """Of 20 equal differences, only two sign flips in a million have a sum as large; of 15 and 5, one in 24."""
    assert paired_difference(one(*[1] * 20), one(*[0] * 20), ones(20)).p == 1 / 10_000
    exact = 2 * sum(math.comb(20, count) for count in range(6)) / 2**20
    mixed = paired_difference(one(*[1] * 15, *[0] * 5), one(*[0] * 15, *[1] * 5), ones(20))
    assert mixed.p == pytest.approx(exact, abs=0.006) and mixed.p != exact


def test_no_p_value_is_below_that_of_equal_differences() -> None:
    for speakers in range(2, 12):
        assert paired_difference(one(*[1] * speakers), one(*[0] * speakers), ones(speakers)).p == smallest_p(speakers)


def test_a_single_speaker_shows_no_difference() -> None:
    difference = paired_difference(one(50), one(0), np.full((1, 1), 100.0))
    assert difference == Difference(50.0, -math.inf, math.inf, 1.0, 1.0, None) and not difference.significant


def test_a_clear_difference_is_significant_and_reproducible() -> None:
    random = np.random.default_rng(1)
    reference, sizes = random.poisson(0.5, (1, 200, 1)).astype(float), np.full((200, 1), 6.0)
    worse = reference + random.binomial(1, 0.3, (1, 200, 1))
    difference = paired_difference(worse, reference, sizes)
    assert difference.significant and difference.p < 0.001 and 0 < difference.low < difference.value < difference.high
    assert paired_difference(worse, reference, sizes) == difference
    other = paired_difference(reference, worse, sizes)
    assert other.value == -difference.value and other.significant


def test_the_interval_has_its_coverage_and_the_test_its_false_positive_rate() -> None:
    """Systems with an error in each word with probability 0.20 and 0.20, or 0.30: 200 test sets of 80 speakers each."""
    random, covered, false, found = np.random.default_rng(2), 0, 0, 0
    for trial in range(200):
        sizes = random.integers(3, 9, (80, 1))
        reference, same, worse = (random.binomial(sizes, p)[None].astype(float) for p in (0.20, 0.20, 0.30))
        null = paired_difference(same, reference, sizes, resamples=399, seed=trial)
        covered += null.low <= 0.0 <= null.high
        false += null.p < 0.05
        found += paired_difference(worse, reference, sizes, resamples=399, seed=trial).p < 0.05
    assert 0.90 <= covered / 200 <= 0.99
    assert false / 200 <= 0.10
    assert found / 200 >= 0.90


def words(random: np.random.Generator, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the word errors of two systems: ten speakers with 13 utterances of 3 to 9 words each, as in AN4."""
    sizes = random.integers(3, 10, (SPEAKERS, 13)).sum(axis=1, keepdims=True)
    system, reference = (
        random.binomial(sizes, p)[None].astype(float) for p in probabilities(random, -1.7, 0.35, shift)
    )
    return system, reference, sizes


def labels(random: np.random.Generator, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the correct labels of two systems: ten speakers with 0 to 15 utterances of each of four labels."""
    sizes = random.integers(0, 16, (SPEAKERS, 4))
    system, reference = (random.binomial(sizes, p)[None].astype(float) for p in probabilities(random, 0.7, 0.47, shift))
    return system, reference, sizes


def probabilities(
    random: np.random.Generator, centre: float, deviation: float, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the probabilities of each speaker by two systems (speakers, 1).

    The speakers have a strong effect on both. The difference of the logits is normal, with ``shift`` as its mean.
    """
    speaker = random.normal(centre, 1.0, (SPEAKERS, 1))
    half = random.normal(shift, deviation, (SPEAKERS, 1)) / 2
    return 1 / (1 + np.exp(-speaker - half)), 1 / (1 + np.exp(-speaker + half))


@pytest.mark.parametrize("draw", [words, labels])
def test_equal_systems_over_ten_speakers_are_called_different_in_at_most_6_percent(draw: Draw) -> None:
    """50 of the 1,024 sign flips have p < 0.05. With utterances as units, 12 % of such draws are called different."""
    random, draws = np.random.default_rng(3), 1000
    called = sum(
        paired_difference(*draw(random, 0.0), resamples=1024, seed=trial).significant for trial in range(draws)
    )
    assert 0.01 * draws <= called <= 0.06 * draws
    found = sum(paired_difference(*draw(random, 1.0), resamples=1024, seed=trial).significant for trial in range(100))
    assert found >= 90


def test_seeds_are_averaged_and_a_difference_within_their_spread_is_not_significant() -> None:
    """The seeds of a system differ as much from each other as from the reference, equally in all utterances."""
    sizes = ones(100)
    reference = np.zeros((2, 100, 1))
    system = np.stack([np.zeros((100, 1)), np.ones((100, 1))])  # rates 0 and 100: mean 50, deviation 70.7
    difference = paired_difference(system, reference, sizes)
    assert difference.value == 50.0 and difference.p < 0.05 and difference.low > 0.0
    assert difference.spread == pytest.approx(70.71, abs=0.01)
    assert not difference.significant


def test_a_single_seed_has_the_spread_of_the_other_system() -> None:
    assert seed_spread([1.0, 3.0], [4.0, 8.0]) == pytest.approx((2.0 + 8.0) ** 0.5)
    assert seed_spread([7.0], [4.0, 8.0]) == seed_spread([4.0, 8.0], [7.0]) == pytest.approx(4.0)
    assert seed_spread([7.0], [4.0]) is None


def test_the_correction_of_holm_multiplies_the_smallest_p_by_the_number_the_next_by_one_less() -> None:
    """Sorted, 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 are 0.02, 0.03, 0.06 and 0.04, which is not below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3, 0.7, 0.4]) == pytest.approx([0.9, 0.9, 0.9]) and holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []
    assert holm([0.01, 0.01, 0.01]) == pytest.approx([0.03, 0.03, 0.03])


@pytest.mark.parametrize(
    ("difference", "significant"),
    [
        (Difference(-2.0, -3.0, -1.0, 0.01, 0.01, 1.9), True),
        (Difference(-2.0, -3.0, -1.0, 0.01, 0.04, None), True),
        (Difference(-2.0, -3.0, -1.0, 0.01, 0.05, None), False),
        (Difference(-2.0, -3.0, 0.0, 0.01, 0.01, None), False),
        (Difference(-2.0, -3.0, -1.0, 0.01, 0.01, 2.0), False),
    ],
)
def test_a_significant_difference_meets_three_conditions(difference: Difference, significant: bool) -> None:
    assert difference.significant is significant


def test_different_speakers_are_refused() -> None:
    with pytest.raises(ValueError) as error:
        paired_difference(one(0, 0, 1), one(0, 0), ones(3))
    assert str(error.value) == (
        "expected values (seeds, speakers, classes) of two systems and sizes (speakers, classes), got the shapes "
        "(1, 3, 1), (1, 2, 1) and (3, 1)"
    )
