"""Whether two systems differ on the same test utterances, or might as well be one.

Both measures are ratios of sums over utterances, ``rate = sum(value_i) / sum(size_i)``: a word error rate with the
errors and the words of each utterance, an unweighted accuracy with ``size_i = 1 / (classes x utterances of i's class)``
and ``value_i = size_i`` where the answer is right. So one test serves both. The interval is the paired bootstrap of
Bisani and Ney (2004), the p-value the matched-pairs test of Gillick and Cox (1989) by sign flips, which for one seed
each and right-or-wrong answers of equal weight is McNemar's exact test. The utterance is the unit: that utterances of
one speaker resemble each other is not taken into account.
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
BATCH = 500  # resamples at a time, to bound the memory


@dataclass(frozen=True)
class Difference:
    """The difference of two systems' rates, in percentage points.

    Attributes:
        value: The difference on all utterances.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        p: How often a difference as large, of either sign, comes about where the systems' answers are exchangeable.
        spread: Standard deviation of a difference between single seeds; None where no system has two seeds.
    """

    value: float
    low: float
    high: float
    p: float
    spread: float | None

    @property
    def significant(self) -> bool:
        """Whether p < 0.05, the interval excludes 0, and the difference is larger than the seeds' spread."""
        return self.p < ALPHA and not self.low <= 0.0 <= self.high and abs(self.value) > (self.spread or 0.0)


def paired_difference(
    system: np.ndarray, reference: np.ndarray, sizes: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """How much a system's rate is above the reference's, ``100 sum(mean_a - mean_b) / sum(sizes)``.

    With several seeds an utterance's value is the mean over them, so the test is about the utterances; seeds enter by
    their spread, ``sqrt(sd_a^2 + sd_b^2)`` of their rates. A system of one seed is taken to spread as the other does.

    Args:
        system: (seeds, utterances), values of each utterance.
        reference: (other seeds, utterances), of the same utterances in the same order.
        sizes: (utterances,), positive.
        resamples: Bootstrap samples; sign flips too, or all of them where there are no more.
        seed: Of both.

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
            f"two systems' answers to the same two or more utterances are needed, got {system.shape}, "
            f"{reference.shape} and {count} sizes"
        )
    delta = 100.0 * (system.mean(axis=0) - reference.mean(axis=0))
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
    test = permutation_test(
        (delta,),
        lambda delta, axis: delta.sum(axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    spread = seed_spread(rates(system, sizes), rates(reference, sizes))
    value = float(delta.sum() / sizes.sum())
    return Difference(value, float(interval.low), float(interval.high), float(test.pvalue), spread)


def rates(values: np.ndarray, sizes: np.ndarray) -> list[float]:
    """The rate of each seed in percent; values (seeds, utterances), sizes (utterances,)."""
    return [float(rate) for rate in 100.0 * values.sum(axis=1) / sizes.sum()]


def seed_spread(a: Sequence[float], b: Sequence[float]) -> float | None:
    """``sqrt(sd_a^2 + sd_b^2)``, where one value alone borrows the other's deviation; None for two single values.

    Example:
        >>> seed_spread([1.0, 3.0], [5.0]), seed_spread([1.0], [2.0])
        (2.0, None)
    """
    known = [stdev(values) for values in (a, b) if len(values) > 1]
    return math.hypot(known[0], known[-1]) if known else None
