"""When each word of a transcript was said, from a CTC head that has learned to transcribe, as Kaldi's ``ctm``.

CTC's peaks lie somewhere within the words, not where they part. The times b_1 < b_2 < ... at which words part are those
that minimise ``sum_i 6 level(b_i) + sum_i (log(d_i / d(w_i)) / 0.3)^2`` by dynamic programming: ``level`` is the
sound's level at that time (0 for the utterance's softest 5 %, 1 for its loudest), ``d_i = b_i - b_(i-1)`` how long
word w_i then takes, ``d(w)`` the median of what it took before, over all utterances. b_i lies between the last peak of
one word and the first of the next, 60 ms aside at most. Without ``d``, closures within a word pass for its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.audio import SAMPLE_RATE

if TYPE_CHECKING:
    pass

CTM = "ctm"  # the file, in a dump folder
COMMENT = ";;"  # begins a line that says nothing of words
FRAME = 0.01  # seconds, to which words are told apart
SHORTEST = 0.06  # seconds of a word
_ASIDE = 0.06
_LEVEL_WEIGHT = 6.0
_SPREAD = 0.3
_RANGE = 40.0  # decibels; digital silence would make everything else loud
_ROUNDS = 4
_PRIOR = 3  # how many times a word is taken to have been said with the median length of all words


@dataclass(frozen=True)
class Word:
    """A word, and when it begins and ends, in seconds."""

    text: str
    start: float
    end: float


@dataclass
class Heard:
    """An utterance whose words are to be told apart.

    Attributes:
        words: Its U words.
        level: Of each ``FRAME`` of the sound, 0 to 1 (T,).
        candidates: Frames at which each word but the last may end: U - 1 arrays.
        parts: Frames at which words part, as far as known (U - 1,).
    """

    words: Sequence[str]
    level: NDArray[np.float64]
    candidates: Sequence[NDArray[np.int64]]
    parts: NDArray[np.int64]

    @classmethod
    def of(cls, words: Sequence[str], peaks: Sequence[Sequence[float]], samples: NDArray[np.float32]) -> Heard:
        """Before anything is known of how long words take: they part where it is softest.

        ``peaks`` are the first and the last frame that CTC gives each word, in seconds (U, 2), of samples (N,).
        """
        levels = level(samples)
        candidates = _candidates(np.asarray(peaks, dtype=np.float64), len(levels))
        parts = [frames[levels[frames].argmin()] for frames in candidates]
        return cls(words, levels, candidates, np.array(parts, dtype=np.int64))

    def lengths(self) -> NDArray[np.float64]:
        """Seconds of each word but the first and the last, which have the silence around speech with them (U - 2,)."""
        return np.diff(self.parts) * FRAME


def level(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of every ``FRAME`` of samples (N,) at 16 kHz: decibels of 25 ms, the loudest 5 % as 1, as 0 the
    softest 5 % and what is 40 decibels below the loudest.
    """
    hop = round(FRAME * SAMPLE_RATE)
    power = np.convolve(np.square(samples, dtype=np.float64), np.full(400, 1 / 400), "same")[::hop]
    decibels = 10 * np.log10(power + 1e-9)
    low, high = np.quantile(decibels, [0.05, 0.95])
    low = max(low, high - _RANGE)
    return np.clip((decibels - low) / max(high - low, 10.0), 0.0, 1.0)


def refine_boundaries(utterances: Sequence[Heard]) -> None:
    """Move the ``parts`` of all utterances to where words part best, by what words usually take, in four rounds."""
    for _ in range(_ROUNDS):
        usual = _usual_lengths(utterances)
        for heard in utterances:
            if len(heard.words) > 1:
                heard.parts = _best_parts(heard, [usual[word] for word in heard.words])


def aligned_words(heard: Heard) -> list[Word]:
    """The words with their times; none if one of them is shorter than a word can be.

    The first begins with the utterance, the last ends with it: silence there is theirs.
    """
    edges = [0.0, *(heard.parts * FRAME), len(heard.level) * FRAME]
    words = [Word(*word) for word in zip(heard.words, edges, edges[1:], strict=False)]
    return words if all(word.end - word.start >= SHORTEST - 1e-9 for word in words) else []


def format_ctm(utterances: Mapping[str, Iterable[Word]]) -> str:
    """Lines ``utterance 1 start duration word``, in seconds.

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
    """Words by utterance; lines that begin with ``;;`` are comments.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on a line that is none of a ``ctm``, with file:line.
    """
    utterances: dict[str, list[Word]] = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith(COMMENT):
                continue
            try:
                utterance, _, start, duration, text, *_ = line.split()
                begins, lasts = float(start), float(duration)
            except ValueError as error:
                raise InputError(
                    f"{path}:{number}: expected 'utterance channel start duration word', got {line.rstrip()!r}"
                ) from error
            utterances.setdefault(utterance, []).append(Word(text, begins, round(begins + lasts, 4)))
    return utterances


def _candidates(peaks: NDArray[np.float64], frames: int) -> list[NDArray[np.int64]]:
    """Of ``frames``, those at which each word but the last may end, for ``peaks`` (U, 2); never none."""
    last = frames - 1
    from_, to = (peaks[:-1, 1] - _ASIDE) / FRAME, (peaks[1:, 0] + _ASIDE) / FRAME
    starts = np.clip(from_.round(), 1, max(last - 1, 1)).astype(np.int64)
    ends = np.clip(to.round(), starts + 1, max(last, 2)).astype(np.int64)
    return [np.minimum(np.arange(start, end), last) for start, end in zip(starts, ends, strict=True)]


def _usual_lengths(utterances: Iterable[Heard]) -> Mapping[str, float]:
    """Word -> logarithm of the seconds that it usually takes."""
    taken: dict[str, list[float]] = {word: [] for heard in utterances for word in heard.words}
    for heard in utterances:
        for word, seconds in zip(heard.words[1:-1], heard.lengths(), strict=True):
            taken[word].append(float(np.log(max(seconds, SHORTEST))))
    everything = [length for lengths in taken.values() for length in lengths]
    overall = float(np.median(everything)) if everything else float(np.log(0.3))
    return {
        word: (float(np.median(lengths)) * len(lengths) + overall * _PRIOR) / (len(lengths) + _PRIOR)
        if lengths
        else overall
        for word, lengths in taken.items()
    }


def _best_parts(heard: Heard, usual: Sequence[float]) -> NDArray[np.int64]:
    """Where the words of one utterance part, for the logarithms of their usual lengths: (U - 1,)."""
    candidates = heard.candidates
    cost, before = _LEVEL_WEIGHT * heard.level[candidates[0]], []
    for previous, frames, expected in zip(candidates, candidates[1:], usual[1:], strict=False):
        seconds = (frames[None] - previous[:, None]) * FRAME
        strange = np.square((np.log(np.maximum(seconds, FRAME)) - expected) / _SPREAD)
        total = cost[:, None] + np.where(seconds < SHORTEST, 1e3, strange)
        before.append(total.argmin(0))
        cost = total.min(0) + _LEVEL_WEIGHT * heard.level[frames]
    at = int(cost.argmin())
    parts = [candidates[-1][at]]
    for frames, best in zip(reversed(candidates[:-1]), reversed(before), strict=True):
        at = int(best[at])
        parts.append(frames[at])
    return np.array(parts[::-1], dtype=np.int64)
