"""Forced alignment by a trained CTC head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchaudio
from torch import Tensor

MAX_WER = 0.5  # word error rate of what CTC hears by itself, above which its times are not believed


def ctc_word_spans(log_probs: Tensor, words: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first and the last frame of each word on CTC's best path for a transcript.

    Args:
        log_probs: Of a CTC head whose blank is index 0 and whose token i is index i + 1: (T, W + 1).
        words: The tokens of each word.

    Raises:
        ValueError: if there are fewer frames than the transcript needs.

    Example:
        >>> import torch
        >>> path = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 2, 3, 0]), 4).float().log_softmax(-1)
        >>> ctc_word_spans(path, [[0], [1, 2]])
        [(1, 2), (4, 5)]
    """

    tokens = torch.tensor([token for word in words for token in word], device=log_probs.device) + 1
    needed = len(tokens) + int((tokens[1:] == tokens[:-1]).sum())
    if len(log_probs) < needed:
        raise ValueError(f"{len(log_probs)} frames for {needed} that CTC needs")
    path = torchaudio.functional.forced_align(log_probs.float()[None], tokens[None], blank=0)[0][0].tolist()
    starts = [frame for frame, index in enumerate(path) if index and index != ([0, *path])[frame]]
    ends = [frame for frame, index in enumerate(path) if index and index != ([*path, 0])[frame + 1]]
    counts = np.cumsum([0, *map(len, words)]).tolist()
    return [(starts[first], ends[last - 1]) for first, last in zip(counts, counts[1:], strict=False)]


def word_tokens(words: Sequence[str], encode: Callable[[str], list[int]]) -> list[list[int]]:
    """The tokens of each word in the whole text, which need not be those of the word alone.

    Example:
        >>> word_tokens(["GO", "ON"], lambda text: [ord(letter) for letter in text])
        [[71, 79], [32, 79, 78]]
    """
    tokens = encode(" ".join(words))
    ends = [len(encode(" ".join(words[: count + 1]))) for count in range(len(words))]
    return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]
