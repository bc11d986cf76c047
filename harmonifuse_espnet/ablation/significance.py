"""Paired significance tests of two systems on the same test utterances.

Both metrics are ratios of sums over utterances, ``rate = sum(value_i) / sum(size_i)``: a word error rate with the
errors and the words of each utterance; an unweighted accuracy with ``size_i = 1 / (classes x utterances of the class of
i)``, and ``value_i = size_i`` if the label is correct, otherwise 0. So one test serves both. The interval is the paired
bootstrap of Bisani and Ney (2004), the p-value the matched-pairs test of Gillick and Cox (1989) by sign flips; for
labels of equal weight and one seed this is McNemar's exact test. The unit is the utterance: correlation between
utterances of one speaker is not taken into account.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np
from scipy.stats import bootstrap, permutation_test

ALPHA = 0.05
RESAMPLES = 9999
BATCH = 500  # resamples in memory at a time


@dataclass(frozen=True)
class Difference:
    """The difference between the rates of two systems, in percentage points.

    Attributes:
        value: Difference on all utterances.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        p: Probability of an absolute difference at least as large if the systems are exchangeable.
        spread: Standard deviation of a difference between single seeds; None if no system has two seeds.
    """

    value: float
    low: float
    high: float
    p: float
    spread: float | None

    @property
    def significant(self) -> bool:
        """Whether p < 0.05, the interval excludes 0, and the difference is larger than the spread of the seeds."""
        return self.p < ALPHA and not self.low <= 0.0 <= self.high and abs(self.value) > (self.spread or 0.0)


def paired_difference(
    system: np.ndarray, reference: np.ndarray, sizes: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compute the difference ``100 sum(mean_system - mean_reference) / sum(sizes)`` with its interval and p-value.

    The value of an utterance is its mean over the seeds, so the test is about utterances; seeds enter by the spread of
    their rates, ``sqrt(sd_a^2 + sd_b^2)``. A system with one seed is assumed to have the spread of the other.

    Args:
        system: (seeds, utterances), values of each utterance.
        reference: (other seeds, utterances), of the same utterances in the same order.
        sizes: (utterances,), positive.
        resamples: Number of bootstrap samples, and of sign flips; all sign flips if there are fewer.
        seed: Seed of both.

    Raises:
        ValueError: if there are fewer than two utterances, or the shapes do not fit.

    Example:
        >>> sizes = np.full(200, 5.0)
        >>> better = paired_difference(np.zeros((1, 200)), np.ones((1, 200)), sizes)
        >>> better.value, better.significant
        (-20.0, True)
    """
    count = len(sizes)
    if count < 2 or system.shape[1:] != (count,) or reference.shape[1:] != (count,):
        raise ValueError(
            "expected values of two systems for the same two or more utterances, got shapes "
            f"{system.shape} and {reference.shape} and {count} sizes"
        )
    delta = 100.0 * (system.mean(axis=0) - reference.mean(axis=0))
    low, high = _interval(delta, sizes, resamples, seed)
    value, spread = float(delta.sum() / sizes.sum()), seed_spread(rates(system, sizes), rates(reference, sizes))
    return Difference(value, low, high, _p_value(delta, resamples, seed), spread)


def rates(values: np.ndarray, sizes: np.ndarray) -> list[float]:
    """Return the rate of each seed in percent; values (seeds, utterances), sizes (utterances,)."""
    return [float(rate) for rate in 100.0 * values.sum(axis=1) / sizes.sum()]


def seed_spread(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return ``sqrt(sd_a^2 + sd_b^2)``; a single value has the deviation of the other, two single values give None.

    Example:
        >>> seed_spread([1.0, 3.0], [5.0]), seed_spread([1.0], [2.0])
        (2.0, None)
    """
    known = [stdev(values) for values in (a, b) if len(values) > 1]
    return math.hypot(known[0], known[-1]) if known else None


def _interval(delta: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    interval = bootstrap(
        (delta, sizes),
        lambda delta, sizes, axis: delta.sum(axis=axis) / sizes.sum(axis=axis),
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        paired=True,
        method="percentile",
        confidence_level=1.0 - ALPHA,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _p_value(delta: np.ndarray, resamples: int, seed: int) -> float:
    test = permutation_test(
        (delta,),
        lambda delta, axis: delta.sum(axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
