"""Paired differences: exact for few utterances, calibrated for many."""

from __future__ import annotations

import numpy as np
import pytest

from harmonifuse_espnet.ablation.significance import Difference, paired_difference, rates, seed_spread


def one(*values: float) -> np.ndarray:
    return np.array([values])


def test_identical_systems_do_not_differ() -> None:
    errors = np.random.default_rng(0).poisson(1.0, (3, 60)).astype(float)
    same = paired_difference(errors, errors, np.full(60, 6.0))
    assert (same.value, same.low, same.high, same.p, same.significant) == (0.0, 0.0, 0.0, 1.0, False)


def test_the_difference_is_that_of_pooled_rates() -> None:
    """3 errors against 1, each in 8 words; the longer utterance has more weight."""
    sizes = np.array([2.0, 6.0])
    system, reference = one(0, 3), one(1, 0)
    assert rates(system, sizes) == [37.5] and rates(reference, sizes) == [12.5]
    difference = paired_difference(system, reference, sizes)
    assert difference.value == pytest.approx(25.0)
    assert (difference.low, difference.high) == (-50.0, 50.0)  # one utterance drawn twice: -1 / 2 or 3 / 6


def test_few_sign_flips_are_enumerated() -> None:
    """Two of the 2^5 sign flips of five equal differences have a sum as large, p = 2 / 32; of 1, 1, -1, all 8 of 8."""
    assert paired_difference(one(1, 1, 1, 1, 1), one(0, 0, 0, 0, 0), np.ones(5)).p == 2 / 32
    assert paired_difference(one(1, 1, 0), one(0, 0, 1), np.ones(3)).p == 1.0
    assert paired_difference(one(2, 1, 0), one(0, 0, 0), np.ones(3)).p == 0.5  # +-(2 + 1) of four


def test_a_clear_difference_is_significant_and_reproducible() -> None:
    random = np.random.default_rng(1)
    reference, sizes = random.poisson(0.5, (1, 200)).astype(float), np.full(200, 6.0)
    worse = reference + random.binomial(1, 0.3, (1, 200))
    difference = paired_difference(worse, reference, sizes)
    assert difference.significant and difference.p < 0.001 and 0 < difference.low < difference.value < difference.high
    assert paired_difference(worse, reference, sizes) == difference
    other = paired_difference(reference, worse, sizes)
    assert other.value == -difference.value and other.significant


def test_the_interval_has_its_coverage_and_the_test_its_false_positive_rate() -> None:
    """Systems with an error in each word with probability 0.20 and 0.20, or 0.30: 200 test sets of each."""
    random, covered, false, found = np.random.default_rng(2), 0, 0, 0
    for trial in range(200):
        sizes = random.integers(3, 9, 80)
        reference, same, worse = (random.binomial(sizes, p)[None].astype(float) for p in (0.20, 0.20, 0.30))
        null = paired_difference(same, reference, sizes, resamples=399, seed=trial)
        covered += null.low <= 0.0 <= null.high
        false += null.p < 0.05
        found += paired_difference(worse, reference, sizes, resamples=399, seed=trial).p < 0.05
    assert 0.90 <= covered / 200 <= 0.99
    assert false / 200 <= 0.10
    assert found / 200 >= 0.90


def test_seeds_are_averaged_and_a_difference_within_their_spread_is_not_significant() -> None:
    """The seeds of a system differ as much from each other as from the reference, equally in all utterances."""
    sizes = np.ones(100)
    reference = np.zeros((2, 100))
    system = np.stack([np.zeros(100), np.ones(100)])  # rates 0 and 100: mean 50, deviation 70.7
    difference = paired_difference(system, reference, sizes)
    assert difference.value == 50.0 and difference.p < 0.05 and difference.low > 0.0
    assert difference.spread == pytest.approx(70.71, abs=0.01)
    assert not difference.significant


def test_a_single_seed_has_the_spread_of_the_other_system() -> None:
    assert seed_spread([1.0, 3.0], [4.0, 8.0]) == pytest.approx((2.0 + 8.0) ** 0.5)
    assert seed_spread([7.0], [4.0, 8.0]) == seed_spread([4.0, 8.0], [7.0]) == pytest.approx(4.0)
    assert seed_spread([7.0], [4.0]) is None


@pytest.mark.parametrize(
    ("difference", "significant"),
    [
        (Difference(-2.0, -3.0, -1.0, 0.01, 1.9), True),
        (Difference(-2.0, -3.0, -1.0, 0.01, None), True),
        (Difference(-2.0, -3.0, -1.0, 0.05, None), False),
        (Difference(-2.0, -3.0, 0.0, 0.01, None), False),
        (Difference(-2.0, -3.0, -1.0, 0.01, 2.0), False),
    ],
)
def test_a_significant_difference_meets_three_conditions(difference: Difference, significant: bool) -> None:
    assert difference.significant is significant


def test_different_utterances_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same two or more utterances, got shapes \(1, 3\) and \(1, 2\) and 3 sizes"):
        paired_difference(one(0, 0, 1), one(0, 0), np.ones(3))
    with pytest.raises(ValueError, match="two or more utterances"):
        paired_difference(one(0), one(1), np.ones(1))
