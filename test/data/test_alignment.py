"""Where words part: on made sounds whose words are known, and literal files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harmonifuse_espnet.data.alignment import Heard, Word, aligned_words, format_ctm, level, read_ctm, refine_boundaries
from harmonifuse_espnet.inference.ctc_alignment import ctc_word_spans, word_tokens

LENGTHS = {"TEN": 0.5, "A": 0.2, "STOP": 0.4}  # seconds
CLOSURE = 0.15  # seconds after which the sound of STOP may pause


def say(words: list[str], seed: int = 0) -> tuple[NDArray[np.float32], list[float]]:
    """Noise for each word, softer towards its ends, every third time with a pause within STOP; and when words part."""
    random, pieces = np.random.default_rng(seed), [np.zeros(1600)]
    for word in words:
        count = round(LENGTHS[word] * 16000)
        sound = random.standard_normal(count) * np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
        if word == "STOP" and seed % 3 == 0:
            sound[round(CLOSURE * 16000) : round(CLOSURE * 16000) + 800] = 0
        pieces.append(sound)
    ends = np.cumsum([len(piece) for piece in pieces]) / 16000
    return np.concatenate([*pieces, np.zeros(1600)]).astype(np.float32), ends[1:-1].tolist()


def hear(words: list[str], seed: int = 0) -> tuple[Heard, list[float]]:
    """As CTC would hear it: one peak a word, early in it, before a closure."""
    samples, ends = say(words, seed)
    starts = [0.1, *ends]
    return Heard.of(words, [(start + 0.06, start + 0.1) for start in starts], samples), ends


def test_the_best_path_goes_through_the_transcript_alone() -> None:
    log_probs = torch.full((8, 5), 0.01)
    for frame, index in enumerate([0, 4, 4, 0, 2, 3, 3, 0]):  # 3 is likelier than 1 at the end, but not in the text
        log_probs[frame, index] = 1.0
    log_probs[6, 1] = 0.5
    assert ctc_word_spans(log_probs.log_softmax(-1), [[3], [1, 0]]) == [(1, 2), (4, 6)]


def test_a_repeated_token_needs_a_blank_between() -> None:
    log_probs = torch.zeros(3, 3).log_softmax(-1)
    assert ctc_word_spans(log_probs, [[1], [1]]) == [(0, 0), (2, 2)]
    with pytest.raises(ValueError, match="2 frames for 3 that CTC needs"):
        ctc_word_spans(log_probs[:2], [[1], [1]])


def test_words_have_the_tokens_that_they_have_in_their_text() -> None:
    tokens = {"": [], "TEN": [1], "TEN A": [1, 2, 3], "TEN A STOP": [1, 2, 3, 4]}  # a blank may be a word's first token
    assert word_tokens(["TEN", "A", "STOP"], tokens.__getitem__) == [[1], [2, 3], [4]]


def test_the_level_is_0_in_silence_and_1_where_it_is_loud() -> None:
    samples = np.concatenate([np.zeros(8000), np.full(8000, 0.5)]).astype(np.float32)
    levels = level(samples)
    assert len(levels) == 100 and (levels[:48] == 0).all() and (levels[52:] > 0.98).all()
    assert not level(np.zeros(1600, np.float32)).any()


def test_what_words_usually_take_tells_their_ends_from_closures_within() -> None:
    texts = [["TEN", "STOP", "A", "TEN"], ["A", "TEN", "STOP", "TEN"], ["TEN", "STOP", "STOP", "A"], ["A", "A", "TEN"]]
    heard, ends = zip(*[hear(text * 2, seed) for seed, text in enumerate(texts * 6)], strict=True)
    softest = np.concatenate([one.parts * 0.01 - np.array(end) for one, end in zip(heard, ends, strict=True)])
    assert np.abs(softest).max() > 0.15  # a closure is as silent as a word's end
    refine_boundaries(heard)
    apart = np.concatenate([one.parts * 0.01 - np.array(end) for one, end in zip(heard, ends, strict=True)])
    assert np.abs(apart).max() < 0.05
    words = aligned_words(heard[0])
    assert [word.text for word in words] == texts[0] * 2 and words[0].start == 0
    assert [word.end for word in words[:-1]] == [word.start for word in words[1:]]
    assert words[-1].end == pytest.approx(len(heard[0].level) / 100)


def test_one_word_is_the_whole_utterance() -> None:
    heard, _ = hear(["TEN"])
    refine_boundaries([heard])
    assert aligned_words(heard) == [Word("TEN", 0.0, pytest.approx(0.7))]


def test_words_that_have_no_time_are_none() -> None:
    samples, _ = say(["A"])
    heard = Heard.of(["A"] * 9, [(0.2, 0.2)] * 9, samples)
    refine_boundaries([heard])
    assert aligned_words(heard) == []


def test_a_ctm_is_read_as_it_was_written(tmp_path: Path) -> None:
    words = {"utt1": [Word("ONE", 0.0, 0.31), Word("TWO", 0.31, 0.8)], "utt2": [Word("ONE", 0.0, 1.2)]}
    (tmp_path / "ctm").write_text(format_ctm(words))
    assert read_ctm(tmp_path / "ctm") == words
    (tmp_path / "ctm").write_text(";; a comment\nutt1 1 0.00 0.31 ONE 0.98\nutt1 1 0.31 TWO\n")
    with pytest.raises(
        ValueError, match=r"ctm:3: expected 'utterance channel start duration word', got 'utt1 1 0.31 TWO'"
    ):
        read_ctm(tmp_path / "ctm")
