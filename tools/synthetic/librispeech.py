"""A synthetic corpus in LibriSpeech's format: short tones, or empty FLAC files to time the preparation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from harmonifuse_espnet.corpora.librispeech import COUNTS
from harmonifuse_espnet.corpora.synthetic import ReadSentence, SpeakerInfo, write_chapter, write_speakers
from synthetic.sounds import WORDS, draw_words, sound

FOLDER = "LibriSpeech"
DEFAULT_SUBSETS = {"train-clean-100": 200, "dev-clean": 40, "test-clean": 40}
FULL_TRAINING = {name: count for name, count in COUNTS.items() if name.startswith("train")}
UTTERANCES, CHAPTERS = 48, 3  # utterances per chapter, chapters per reader: about as in the release
SENTENCE = 33  # words per sentence, also about as in the release
MOST_WORDS = 4


def make_librispeech(out_dir: Path, subsets: Mapping[str, int], seconds: tuple[float, float] | None, seed: int) -> int:
    """Write ``out_dir/LibriSpeech`` and return its number of utterances.

    Args:
        out_dir: The folder to create it in.
        subsets: Subset -> number of utterances.
        seconds: The length of the shortest and of the longest utterance; None: empty files, and sentences
            as long as those of the release.
        seed: Random seed of words, lengths and noise.
    """
    readers: list[SpeakerInfo] = []
    for subset, total in subsets.items():
        size = UTTERANCES if seconds is None else max(1, min(UTTERANCES, total // 8))  # at least eight chapters
        generator, noise = random.Random(f"{seed} {subset}"), np.random.default_rng([seed, *subset.encode()])
        for index, start in enumerate(range(0, total, size)):
            if index % CHAPTERS == 0:
                number = str(100 + len(readers))
                readers.append(SpeakerInfo(number, "FM"[len(readers) % 2], subset, 25.0, f"Synthetic {number}"))
            pitch = 220.0 if readers[-1].sex == "F" else 120.0
            count = min(size, total - start)
            readings = (_reading(pitch, seconds, generator, noise) for _ in range(count))
            write_chapter(out_dir, subset, readers[-1].id, str(1000 + index), readings)
    write_speakers(out_dir, "Synthetic corpus: no real readers", _with_a_bar(readers))
    return sum(subsets.values())


def _reading(
    pitch: float, seconds: tuple[float, float] | None, generator: random.Random, noise: np.random.Generator
) -> ReadSentence:
    if seconds is None:
        return ReadSentence(" ".join(generator.choices(WORDS, k=SENTENCE)), None)
    words = draw_words(MOST_WORDS, generator)
    return ReadSentence(" ".join(words), sound(words, pitch, generator.uniform(*seconds), noise))


def _with_a_bar(readers: list[SpeakerInfo]) -> Iterator[SpeakerInfo]:
    """Yield the readers; the first one's name contains bars, as one name of the release does."""
    for index, reader in enumerate(readers):
        name = f"|{reader.id}|{reader.name}" if index == 0 else reader.name
        yield SpeakerInfo(reader.id, reader.sex, reader.subset, reader.minutes, name)
