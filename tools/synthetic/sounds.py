"""The speech of synthetic corpora: each word is a tone, so that a model can learn to recognise it."""

from __future__ import annotations

import random

import numpy as np

from harmonifuse_espnet.data.audio import SAMPLE_RATE

WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN"]


def sound(words: list[str], pitch: float, seconds: float, generator: np.random.Generator) -> np.ndarray:
    """Synthesise words as tones of equal length, with some noise: (N,); ``pitch`` is that of ``WORDS[0]`` in hertz."""
    tones = np.array([pitch * (1 + 0.3 * WORDS.index(word)) for word in words])
    count = round(seconds * SAMPLE_RATE)
    hertz = tones[np.arange(count) * len(words) // count]
    phases = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    return 0.2 * np.sin(phases) + 0.02 * generator.standard_normal(count)


def draw_words(most: int, generator: random.Random) -> list[str]:
    """Draw one to ``most`` words."""
    return generator.choices(WORDS, k=generator.randint(1, most))
