"""Paired significance tests of two systems on the same test utterances.

Both metrics are ratios of sums over utterances, ``rate = sum(value_i) / sum(size_i)``. For the word error rate, value
and size are the errors and the words of an utterance. For the unweighted accuracy, ``size_i`` is ``1 / (classes x
utterances of the class of i)``, and ``value_i`` is ``size_i`` if the label is correct, otherwise 0. The interval is
that of the paired bootstrap (Bisani and Ney, 2004). The p-value is that of the matched-pairs test (Gillick and Cox,
1989) with random sign flips; for labels of equal weight and one seed, it is McNemar's exact test. Utterances count as
independent, also those of one speaker.
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
        p: p-value: probability of an absolute difference at least as large if the systems are exchangeable.
        spread: Standard deviation over seeds of the difference of two single runs; None if no system has two seeds.
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

    The values are averaged over the seeds: interval and p-value cover the variation over utterances only. The variation
    over seeds is the spread of the rates, ``sqrt(sd_a^2 + sd_b^2)``; a system with one seed is assumed to have the
    standard deviation of the other.

    Args:
        system: Value of each utterance by seed (seeds, utterances).
        reference: The same of the reference, utterances in the same order; the number of seeds may differ.
        sizes: Size of each utterance, positive (utterances,).
        resamples: Number of bootstrap samples, and of sign flips (all of them, if there are fewer).
        seed: Seed of the samples and the sign flips.

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
    """Return the rate of each seed in percent, for ``values`` (seeds, utterances) and ``sizes`` (utterances,)."""
    return [float(rate) for rate in 100.0 * values.sum(axis=1) / sizes.sum()]


def seed_spread(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return ``sqrt(sd_a^2 + sd_b^2)``; a single value has the deviation of the other list; None for two of them.

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
