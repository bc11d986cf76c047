"""Forced alignment: the CTC peaks of each word of a transcript, its first and last frame on the CTC path.

``data/alignment.py`` finds the word boundaries between these peaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jiwer
import numpy as np
import torch
import torchaudio
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.audio import SAMPLE_RATE
from harmonifuse_espnet.data.batch import collate

if TYPE_CHECKING:
    from harmonifuse_espnet.inference.speech2text import Speech2Text

MAX_WER = 0.5  # of the greedy CTC transcript; alignments with a higher one are rejected


def ctc_peak_frames(log_probs: Tensor, words: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the CTC peaks of each word: its first and last frame on the best CTC path of the transcript.

    Args:
        log_probs: Log-probabilities of a CTC head (T, W + 1), the CTC blank at index 0 and token i at index i + 1.
        words: Tokens of each word.

    Raises:
        ValueError: if there are fewer frames than CTC needs for the transcript.

    Example:
        >>> import torch
        >>> path = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 2, 3, 0]), 4).float().log_softmax(-1)
        >>> ctc_peak_frames(path, [[0], [1, 2]])
        [(1, 2), (4, 5)]
    """
    tokens = torch.tensor([token for word in words for token in word], device=log_probs.device) + 1
    needed = len(tokens) + int((tokens[1:] == tokens[:-1]).sum())
    if len(log_probs) < needed:
        raise ValueError(f"CTC needs {needed} frames for this transcript, got {len(log_probs)}")
    path = torchaudio.functional.forced_align(log_probs.float()[None], tokens[None], blank=0)[0][0].tolist()
    starts = [frame for frame, index in enumerate(path) if index and index != ([0, *path])[frame]]
    ends = [frame for frame, index in enumerate(path) if index and index != ([*path, 0])[frame + 1]]
    counts = np.cumsum([0, *map(len, words)]).tolist()
    return [(starts[first], ends[last - 1]) for first, last in zip(counts, counts[1:], strict=False)]


def word_tokens(words: Sequence[str], encode: Callable[[str], list[int]]) -> list[list[int]]:
    """Return the tokens of each word in the encoded transcript; a word encoded alone may have other tokens.

    Example:
        >>> word_tokens(["GO", "ON"], lambda text: [ord(letter) for letter in text])
        [[71, 79], [32, 79, 78]]
    """
    tokens = encode(" ".join(words))
    ends = [len(encode(" ".join(words[: count + 1]))) for count in range(len(words))]
    return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@torch.no_grad()
def ctc_peak_times(
    model: Speech2Text, speech: Sequence[np.ndarray], tasks: Sequence[str], texts: Sequence[str]
) -> list[list[tuple[float, float]] | None]:
    """Align the transcripts of a batch with its speech.

    Args:
        model: Model with a CTC head.
        speech: Samples (N,) of each utterance, at 16 kHz.
        tasks: Task of each utterance.
        texts: Transcript of each utterance.

    Returns:
        For each utterance, the times of each word's CTC peaks in seconds (the middle of the frames); None if it has
        fewer frames than CTC needs, or its greedy CTC transcript has a word error rate above ``MAX_WER``.

    Raises:
        InputError: if the model has no CTC head.
    """
    examples = [("speech", model.build_example("speech", *pair)) for pair in zip(speech, tasks, strict=True)]
    encoded, _ = model.encode(collate(examples)[1]["batch"])
    if encoded.ctc_log_probs is None:
        raise InputError("the model has no CTC head, which the alignment needs; align with another model")
    peaks: list[list[tuple[float, float]] | None] = []
    greedy = model.ctc_texts(encoded)
    for row, (samples, text) in enumerate(zip(speech, texts, strict=True)):
        log_probs = encoded.ctc_log_probs[row, : encoded.frame_lengths[row]]
        seconds = len(samples) / SAMPLE_RATE / len(log_probs)
        try:
            frames = ctc_peak_frames(log_probs, word_tokens(text.split(), model.ctc_tokenizer.encode))
        except ValueError:
            frames = []
        reliable = frames and jiwer.wer(text, greedy[row]) <= MAX_WER
        times = [((first + 0.5) * seconds, (last + 0.5) * seconds) for first, last in frames]
        peaks.append(times if reliable else None)
    return peaks
