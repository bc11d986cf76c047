"""Paired significance tests of two systems on the same test set, with speakers as units.

Utterances of one speaker are not independent: a system that suits a speaker suits most of the speaker's utterances.
Therefore whole speakers are resampled and exchanged. Both metrics are means over classes of ratios of sums over the
speakers, ``rate = mean_c(sum_u values[u, c] / sum_u sizes[u, c])``. For the word error rate, there is one class, and
values and sizes are the errors and the words of each speaker. For the unweighted accuracy, the classes are the labels,
and values and sizes are each speaker's correct and all utterances of the label.

* The interval is that of the paired bootstrap (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
  performance evaluation", ICASSP 2004) over speakers. Recalls are computed again in each resample; a label that is not
  in a resample is not part of its mean. For few speakers, the interval is too narrow: in simulations with ten
  speakers, it contains the true difference in 90 % of the draws.
* The p-value is that of the matched-pairs test (Gillick and Cox, "Some statistical issues in the comparison of speech
  recognition algorithms", ICASSP 1989) by sign flips: exchanging the systems for a speaker flips the sign of the
  speaker's difference. All ``2^n`` sign flips of few speakers are enumerated, so p is at least ``2 / 2^n``.
* The p-values of a table are corrected by the step-down method of Holm ("A simple sequentially rejective multiple test
  procedure", Scandinavian Journal of Statistics, 1979), which controls the probability of any false positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np

ALPHA = 0.05
RESAMPLES = 9999
BATCH = 500  # resamples in memory at a time
ROUNDING = 1e-9  # relative; sums of the same numbers in another order are equal


@dataclass(frozen=True)
class Difference:
    """The difference between the rates of two systems, in percentage points.

    Attributes:
        value: Difference on the whole test set.
        low: Lower end of the 95 % bootstrap interval; minus infinity for a single speaker.
        high: Upper end.
        p: p-value: probability of an absolute difference at least as large if the systems are exchangeable.
        corrected_p: p, corrected for the number of comparisons; p itself for a single one.
        spread: Standard deviation over seeds of the difference of two single runs; None if no system has two seeds.
    """

    value: float
    low: float
    high: float
    p: float
    corrected_p: float
    spread: float | None

    @property
    def significant(self) -> bool:
        """Whether corrected p < 0.05, the interval excludes 0, and the difference is larger than the seeds' spread."""
        excludes_zero = not self.low <= 0.0 <= self.high
        return self.corrected_p < ALPHA and excludes_zero and abs(self.value) > (self.spread or 0.0)


def paired_difference(
    system: np.ndarray, reference: np.ndarray, sizes: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compute the difference of the rates, ``system - reference``, with its interval and p-value.

    The values are averaged over the seeds: interval and p-value cover the variation over speakers only. The variation
    over seeds is the spread of the rates, ``sqrt(sd_a^2 + sd_b^2)``; a system with one seed is assumed to have the
    standard deviation of the other.

    Args:
        system: Values of each speaker by seed (seeds, speakers, classes).
        reference: The same of the reference, speakers in the same order; the number of seeds may differ.
        sizes: Sizes; the sum of each speaker, and of each class, is positive (speakers, classes).
        resamples: Number of bootstrap samples, and of sign flips (all of them, if there are fewer).
        seed: Seed of the samples and the sign flips.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> sizes = np.full((10, 1), 100.0)
        >>> better = paired_difference(np.full((1, 10, 1), 5.0), np.full((1, 10, 1), 25.0), sizes)
        >>> better.value, better.p, better.significant
        (-20.0, 0.001953125, True)
    """
    if sizes.ndim != 2 or system.shape[1:] != sizes.shape or reference.shape[1:] != sizes.shape:
        raise ValueError(
            "expected values (seeds, speakers, classes) of two systems and sizes (speakers, classes), got the shapes "
            f"{system.shape}, {reference.shape} and {sizes.shape}"
        )
    delta = system.mean(axis=0) - reference.mean(axis=0)
    by_speaker = _rate(delta, sizes.sum(axis=0))  # its sum is the difference
    low, high = _interval(delta, sizes, resamples, seed)
    p = _p_value(by_speaker, resamples, seed)
    return Difference(
        float(by_speaker.sum()), low, high, p, p, seed_spread(rates(system, sizes), rates(reference, sizes))
    )


def rates(values: np.ndarray, sizes: np.ndarray) -> list[float]:
    """Return the rate of each seed in percent, for (seeds, speakers, classes) and (speakers, classes)."""
    return [float(rate) for rate in _rate(values.sum(axis=1), sizes.sum(axis=0))]


def seed_spread(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return ``sqrt(sd_a^2 + sd_b^2)``; a single value has the deviation of the other list; None for two of them.

    Example:
        >>> seed_spread([1.0, 3.0], [5.0]), seed_spread([1.0], [2.0])
        (2.0, None)
    """
    known = [stdev(values) for values in (a, b) if len(values) > 1]
    return math.hypot(known[0], known[-1]) if known else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number m.

    ``corrected_(i) = max over j <= i of min(1, (m - j + 1) p_(j))``, where p_(j) is the j-th smallest.

    Example:
        >>> holm([0.5, 0.01, 0.25])
        [0.5, 0.03, 0.5]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def smallest_p(speakers: int) -> float:
    """Return the smallest p-value that is possible: one of all sign flips, and its opposite.

    Example:
        >>> smallest_p(5), smallest_p(6)
        (0.0625, 0.03125)
    """
    return 2.0 ** (1 - speakers)


def _rate(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return ``100 mean_c(values / sizes)`` over the classes of positive size, for (..., classes) each."""
    known = np.broadcast_to(sizes > 0.0, values.shape)
    ratios = np.divide(values, sizes, out=np.zeros(values.shape), where=known)
    return 100.0 * ratios.sum(axis=-1) / known.sum(axis=-1)


def _interval(delta: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    speakers, random = len(delta), np.random.default_rng(seed)
    if speakers == 1:  # nothing is known of other speakers
        return -math.inf, math.inf
    found = []
    for count in _batches(resamples):
        drawn = random.multinomial(speakers, np.full(speakers, 1.0 / speakers), count)  # how often (count, speakers)
        found.append(_rate(drawn @ delta, drawn @ sizes))
    low, high = np.quantile(np.concatenate(found), [ALPHA / 2, 1.0 - ALPHA / 2])
    return float(low), float(high)


def _p_value(by_speaker: np.ndarray, resamples: int, seed: int) -> float:
    speakers, random = len(by_speaker), np.random.default_rng(seed)
    least = abs(by_speaker.sum()) - ROUNDING * np.abs(by_speaker).sum()
    if 2**speakers <= resamples:
        signs = 1 - 2 * (np.arange(2**speakers)[:, None] >> np.arange(speakers) & 1)
        return float(np.mean(np.abs(signs @ by_speaker) >= least))
    as_large = 1  # the signs as they are
    for count in _batches(resamples):
        signs = random.choice((-1, 1), (count, speakers))
        as_large += int(np.sum(np.abs(signs @ by_speaker) >= least))
    return as_large / (resamples + 1)


def _batches(resamples: int) -> Iterator[int]:
    for start in range(0, resamples, BATCH):
        yield min(BATCH, resamples - start)
