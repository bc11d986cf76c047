"""Word boundaries from the CTC peaks of a forced alignment, and Kaldi ``ctm`` files.

``inference/ctc_alignment.py`` aligns the words to the peaks of a CTC head, which are within words, not at their
boundaries. Dynamic programming then finds the boundaries b_1 < b_2 < ... that minimise::

    cost = sum_i 6 E(b_i) + sum_i (log(d_i / d(w_i)) / 0.3)^2

E is the log energy, scaled to 0 to 1 (:func:`log_energy`): boundaries are at low energy. ``d_i = b_i - b_(i-1)`` is the
duration of word w_i, ``d(w)`` the median duration of word w in all utterances, from the boundaries of the previous
iteration. b_i is between the last peak of a word and the first peak of the next, with a margin of 60 ms. The
duration cost keeps boundaries from stop closures within words, which have low energy as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import parse_decimal, quote, read_lines
from harmonifuse_espnet.data.audio import SAMPLE_RATE

CTM = "ctm"  # file name in a dump folder
COMMENT = ";;"  # at the beginning of a comment line
FRAME_SECONDS = 0.01  # resolution of the boundaries
MIN_WORD_SECONDS = 0.06
_MAX_MARGIN_SECONDS = 0.06  # of a boundary beyond the peaks on both sides
_ENERGY_WEIGHT = 6.0
_LOG_DURATION_SPREAD = 0.3
_ENERGY_WINDOW = 400  # samples, 25 ms
_MAX_ENERGY_RANGE_DB = 40.0  # maximum dynamic range, for utterances with digital silence
_MIN_ENERGY_RANGE_DB = 10.0
_ITERATIONS = 4
_DEFAULT_DURATION_SECONDS = 0.3  # if all utterances have fewer than three words
_PRIOR_COUNT = 3  # pseudo-count of the median over all words, for smoothing
_TOO_SHORT_COST = 1e3


@dataclass(frozen=True)
class Word:
    """A word with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass
class AlignmentState:
    """Candidates and current word boundaries of an utterance.

    Attributes:
        words: U words.
        energies: Log energy of each frame of ``FRAME_SECONDS``, from 0 to 1 (T,).
        candidates: For each word but the last, the frames at which it may end: U - 1 arrays.
        boundaries: Current boundaries between the words, in frames (U - 1,).
    """

    words: Sequence[str]
    energies: NDArray[np.float64]
    candidates: Sequence[NDArray[np.int64]]
    boundaries: NDArray[np.int64]

    @classmethod
    def from_peaks(
        cls, words: Sequence[str], peaks: Sequence[Sequence[float]], samples: NDArray[np.float32]
    ) -> AlignmentState:
        """Initialise each boundary at the candidate of lowest energy.

        Args:
            words: U words.
            peaks: Times of the first and the last CTC frame of each word, in seconds (U, 2).
            samples: Audio at 16 kHz (N,).
        """
        energies = log_energy(samples)
        candidates = _candidates(np.asarray(peaks, dtype=np.float64), len(energies))
        lowest = [frames[energies[frames].argmin()] for frames in candidates]
        return cls(words, energies, candidates, np.array(lowest, dtype=np.int64))

    def inner_durations(self) -> NDArray[np.float64]:
        """Return the durations in seconds (U - 2,), without the first and the last word, which include silence."""
        return np.diff(self.boundaries) * FRAME_SECONDS


def log_energy(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log energy of each frame of ``FRAME_SECONDS`` of samples (N,) at 16 kHz, scaled to 0 to 1.

    Windows are 25 ms long. 0 is the 5 % quantile, or 40 dB below the 95 % quantile if that is higher. 1 is the 95 %
    quantile, or 10 dB above 0 if that is higher.
    """
    hop = round(FRAME_SECONDS * SAMPLE_RATE)
    window = np.full(_ENERGY_WINDOW, 1 / _ENERGY_WINDOW)
    power = np.convolve(np.square(samples, dtype=np.float64), window, "same")[::hop]
    decibels = 10 * np.log10(power + 1e-9)
    low, high = np.quantile(decibels, [0.05, 0.95])
    low = max(low, high - _MAX_ENERGY_RANGE_DB)
    return np.clip((decibels - low) / max(high - low, _MIN_ENERGY_RANGE_DB), 0.0, 1.0)


def refine_boundaries(utterances: Sequence[AlignmentState]) -> None:
    """Minimise the cost of all utterances in four iterations; each uses the durations of the previous one."""
    for _ in range(_ITERATIONS):
        durations = _log_durations(utterances)
        for state in utterances:
            if len(state.words) > 1:
                state.boundaries = _best_boundaries(state, [durations[word] for word in state.words])


def aligned_words(state: AlignmentState) -> list[Word]:
    """Return the words with their times, or [] if one of them is shorter than ``MIN_WORD_SECONDS``.

    The first and the last word include the silence at the start and end of the utterance.
    """
    edges = [0.0, *(state.boundaries * FRAME_SECONDS), len(state.energies) * FRAME_SECONDS]
    words = [Word(*word) for word in zip(state.words, edges, edges[1:], strict=False)]
    return words if all(word.end - word.start >= MIN_WORD_SECONDS - 1e-9 for word in words) else []


def format_ctm(utterances: Mapping[str, Iterable[Word]]) -> str:
    """Return the lines ``utterance channel start duration word``, in seconds; the channel is 1.

    Example:
        >>> format_ctm({"utt1": [Word("ONE", 0.0, 0.31), Word("TWO", 0.31, 0.8)]})
        'utt1 1 0.00 0.31 ONE\\nutt1 1 0.31 0.49 TWO\\n'
    """
    return "".join(
        f"{utterance} 1 {word.start:.2f} {word.end - word.start:.2f} {word.text}\n"
        for utterance, words in utterances.items()
        for word in words
    )


def read_ctm(path: str | Path) -> dict[str, list[Word]]:
    """Read the words of each utterance; lines that start with ``;;`` are comments.

    The word may be followed by a confidence, which is not used.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: on an invalid line; the message has its number.
    """
    utterances: dict[str, list[Word]] = {}
    for number, line in read_lines(path, "run ./run.sh --stage 5 --align true"):
        if line.startswith(COMMENT):
            continue
        try:
            utterance, _, start_field, duration_field, text, *confidence = re.split(r"[ \t]+", line.strip(" \t"))
            start, duration = parse_decimal(start_field), parse_decimal(duration_field)
            if start < 0 or duration <= 0 or len(confidence) > 1:
                raise ValueError
        except ValueError as error:
            raise InputError(
                f"{path}:{number}: expected 'utterance channel start duration word' in seconds, got {quote(line)}; "
                "remove the file and run ./run.sh --stage 5 --align true"
            ) from error
        utterances.setdefault(utterance, []).append(Word(text, start, round(start + duration, 4)))
    return utterances


def _candidates(peaks: NDArray[np.float64], num_frames: int) -> list[NDArray[np.int64]]:
    """Return the candidates of each boundary, at least one, in an utterance of ``num_frames`` frames."""
    last = num_frames - 1
    earliest = (peaks[:-1, 1] - _MAX_MARGIN_SECONDS) / FRAME_SECONDS
    latest = (peaks[1:, 0] + _MAX_MARGIN_SECONDS) / FRAME_SECONDS
    starts = np.clip(earliest.round(), 1, max(last - 1, 1)).astype(np.int64)
    ends = np.clip(latest.round(), starts + 1, max(last, 2)).astype(np.int64)
    return [np.minimum(np.arange(start, end), last) for start, end in zip(starts, ends, strict=True)]


def _log_durations(utterances: Iterable[AlignmentState]) -> Mapping[str, float]:
    """Return word -> log of its median duration in seconds, smoothed towards the median over all words."""
    measured: dict[str, list[float]] = {word: [] for state in utterances for word in state.words}
    for state in utterances:
        for word, seconds in zip(state.words[1:-1], state.inner_durations(), strict=True):
            measured[word].append(float(np.log(max(seconds, MIN_WORD_SECONDS))))
    pooled = [duration for durations in measured.values() for duration in durations]
    overall = float(np.median(pooled)) if pooled else float(np.log(_DEFAULT_DURATION_SECONDS))
    return {
        word: (float(np.median(durations)) * len(durations) + overall * _PRIOR_COUNT) / (len(durations) + _PRIOR_COUNT)
        if durations
        else overall
        for word, durations in measured.items()
    }


def _best_boundaries(state: AlignmentState, durations: Sequence[float]) -> NDArray[np.int64]:
    """Return the boundaries (U - 1,) of lowest cost, by dynamic programming over the words.

    ``durations`` are the logarithms of the words' median durations (U,).
    """
    candidates = state.candidates
    cost, best_previous = _ENERGY_WEIGHT * state.energies[candidates[0]], []
    for previous, frames, expected in zip(candidates, candidates[1:], durations[1:], strict=False):
        seconds = (frames[None] - previous[:, None]) * FRAME_SECONDS
        deviation = np.square((np.log(np.maximum(seconds, FRAME_SECONDS)) - expected) / _LOG_DURATION_SPREAD)
        total = cost[:, None] + np.where(seconds < MIN_WORD_SECONDS, _TOO_SHORT_COST, deviation)
        best_previous.append(total.argmin(0))
        cost = total.min(0) + _ENERGY_WEIGHT * state.energies[frames]
    index = int(cost.argmin())
    boundaries = [candidates[-1][index]]
    for frames, best in zip(reversed(candidates[:-1]), reversed(best_previous), strict=True):
        index = int(best[index])
        boundaries.append(frames[index])
    return np.array(boundaries[::-1], dtype=np.int64)
