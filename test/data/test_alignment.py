"""Word boundaries of synthetic audio whose words are known, and literal ctm files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.alignment import (
    AlignmentState,
    Word,
    aligned_words,
    format_ctm,
    log_energy,
    read_ctm,
    refine_boundaries,
)
from harmonifuse_espnet.inference.ctc_alignment import ctc_peak_frames, word_tokens

LENGTHS = {"TEN": 0.5, "A": 0.2, "STOP": 0.4}  # seconds
CLOSURE = 0.15  # seconds into STOP, where it may have a stop closure


def synthesize(words: list[str], seed: int = 0) -> tuple[NDArray[np.float32], list[float]]:
    """Return noise for each word, softer at its ends, and the boundaries; every third time, STOP has a closure."""
    random, pieces = np.random.default_rng(seed), [np.zeros(1600)]
    for word in words:
        count = round(LENGTHS[word] * 16000)
        sound = random.standard_normal(count) * np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
        if word == "STOP" and seed % 3 == 0:
            sound[round(CLOSURE * 16000) : round(CLOSURE * 16000) + 800] = 0
        pieces.append(sound)
    ends = np.cumsum([len(piece) for piece in pieces]) / 16000
    return np.concatenate([*pieces, np.zeros(1600)]).astype(np.float32), ends[1:-1].tolist()


def state_of(words: list[str], seed: int = 0) -> tuple[AlignmentState, list[float]]:
    """Return the state for peaks like CTC's, early in each word and before a closure, and the true boundaries."""
    samples, ends = synthesize(words, seed)
    starts = [0.1, *ends]
    return AlignmentState.from_peaks(words, [(start + 0.06, start + 0.1) for start in starts], samples), ends


def test_the_best_path_is_restricted_to_the_transcript() -> None:
    log_probs = torch.full((8, 5), 0.01)
    for frame, index in enumerate([0, 4, 4, 0, 2, 3, 3, 0]):  # 3 is more likely than 1 at the end, but not in the text
        log_probs[frame, index] = 1.0
    log_probs[6, 1] = 0.5
    assert ctc_peak_frames(log_probs.log_softmax(-1), [[3], [1, 0]]) == [(1, 2), (4, 6)]


def test_a_repeated_token_needs_a_ctc_blank_between() -> None:
    log_probs = torch.zeros(3, 3).log_softmax(-1)
    assert ctc_peak_frames(log_probs, [[1], [1]]) == [(0, 0), (2, 2)]
    with pytest.raises(ValueError, match="CTC needs 3 frames for this transcript, got 2"):
        ctc_peak_frames(log_probs[:2], [[1], [1]])


def test_words_have_the_tokens_of_the_encoded_text() -> None:
    tokens = {
        "": [],
        "TEN": [1],
        "TEN A": [1, 2, 3],
        "TEN A STOP": [1, 2, 3, 4],
    }  # a space may be the first token of a word
    assert word_tokens(["TEN", "A", "STOP"], tokens.__getitem__) == [[1], [2, 3], [4]]


def test_the_log_energy_is_0_in_silence_and_1_where_it_is_loud() -> None:
    samples = np.concatenate([np.zeros(8000), np.full(8000, 0.5)]).astype(np.float32)
    energies = log_energy(samples)
    assert len(energies) == 100 and (energies[:48] == 0).all() and (energies[52:] > 0.98).all()
    assert not log_energy(np.zeros(1600, np.float32)).any()


def test_usual_durations_distinguish_word_boundaries_from_closures_within_words() -> None:
    texts = [["TEN", "STOP", "A", "TEN"], ["A", "TEN", "STOP", "TEN"], ["TEN", "STOP", "STOP", "A"], ["A", "A", "TEN"]]
    states, ends = zip(*[state_of(text * 2, seed) for seed, text in enumerate(texts * 6)], strict=True)

    def errors() -> NDArray[np.float64]:
        differences = [one.boundaries * 0.01 - np.array(end) for one, end in zip(states, ends, strict=True)]
        return np.abs(np.concatenate(differences))

    assert errors().max() > 0.15  # a closure is as silent as the end of a word
    refine_boundaries(states)
    assert errors().max() < 0.05
    words = aligned_words(states[0])
    assert [word.text for word in words] == texts[0] * 2 and words[0].start == 0
    assert [word.end for word in words[:-1]] == [word.start for word in words[1:]]
    assert words[-1].end == pytest.approx(len(states[0].energies) / 100)


def test_a_single_word_is_the_whole_utterance() -> None:
    state, _ = state_of(["TEN"])
    refine_boundaries([state])
    assert aligned_words(state) == [Word("TEN", 0.0, pytest.approx(0.7))]


def test_an_utterance_too_short_for_its_words_has_no_alignment() -> None:
    samples, _ = synthesize(["A"])
    state = AlignmentState.from_peaks(["A"] * 9, [(0.2, 0.2)] * 9, samples)
    refine_boundaries([state])
    assert aligned_words(state) == []


def test_reading_a_ctm_restores_what_was_written(tmp_path: Path) -> None:
    words = {"utt1": [Word("ONE", 0.0, 0.31), Word("TWO", 0.31, 0.8)], "utt2": [Word("ONE", 0.0, 1.2)]}
    (tmp_path / "ctm").write_text(format_ctm(words))
    assert read_ctm(tmp_path / "ctm") == words
    (tmp_path / "ctm").write_text(";; a comment\nutt1 1 0.00 0.31 ONE 0.98\nutt1 1 0.31 TWO\n")
    with pytest.raises(
        ValueError,
        match=r"ctm:3: expected 'utterance channel start duration word' in seconds, got 'utt1 1 0.31 TWO'; remove",
    ):
        read_ctm(tmp_path / "ctm")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "line",
    ["", "u1 1 nan 0.5 GO", "u1 1 0 0 GO", "u1 1 -1 0.5 GO", "u1 1 0 1e999 GO", "u1 1 0 ٣ GO", "u1 1 0 1_0 GO"]
    + ["u1 1 0 0.5", "u1 1 0 0.5 GO ON 0.9", "u1\u00a01 0 0.5 GO"],
)
def test_a_line_that_is_no_word_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "ctm").write_text(f";; a comment\nu1 1 0 0.5 GO\n{line}\n")
    with pytest.raises(InputError) as error:
        read_ctm(tmp_path / "ctm")
    assert str(error.value) == (
        f"{tmp_path}/ctm:3: expected 'utterance channel start duration word' in seconds, got {line!r}; remove the file "
        "and run ./run.sh --stage 5 --align true"
    )


def test_a_word_with_a_unicode_space_is_one_word(tmp_path: Path) -> None:
    (tmp_path / "ctm").write_text("u1 1 0 0.5 GO\u00a0ON 0.9\n")
    assert read_ctm(tmp_path / "ctm") == {"u1": [Word("GO\u00a0ON", 0.0, 0.5)]}
