"""CTC head over the connector's frames: loss and greedy transcripts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CTCHead(nn.Module):
    """Connectionist temporal classification (Graves et al., 2006) over the connector's frames.

    Index 0 is the CTC blank, index i + 1 is token i of the CTC tokenizer.

    Args:
        input_size: Width V of the frames.
        vocab_size: Size W of the CTC tokenizer's vocabulary.
        dropout: Dropout on the normalised frames.
    """

    def __init__(self, input_size: int, vocab_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_size)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(input_size, vocab_size + 1)

    def forward(self, frames: Tensor) -> Tensor:
        """``frames`` (B, T, V) -> log-probabilities (B, T, W + 1)."""
        return self.project(self.dropout(self.norm(frames))).log_softmax(-1)

    def activation_bytes(self, frames: int) -> int:
        """Estimate the bytes kept for backward: three float32 tensors, ``B T' 3 (W + 1) 4``, with ``frames`` = B T'."""
        return 12 * self.project.out_features * frames

    @staticmethod
    def loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Return the mean loss in nats per utterance; an utterance with too few frames for its tokens has loss 0.

        Args:
            log_probs: (B, T, W + 1).
            lengths: Frames of each utterance (B,).
            tokens: Token ids (B, U).
            token_lengths: Tokens of each utterance (B,).
        """
        losses = F.ctc_loss(
            log_probs.float().transpose(0, 1), tokens + 1, lengths, token_lengths, reduction="none", zero_infinity=True
        )
        return losses.mean()

    @staticmethod
    def greedy(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        """Return the token ids of each utterance's best path, after merging repeats and removing blanks.

        Example:
            >>> path = F.one_hot(torch.tensor([[2, 2, 0, 2, 1]]), 3).float().log()
            >>> CTCHead.greedy(path, torch.tensor([5]))
            [[1, 1, 0]]
        """
        hypotheses = []
        for path, length in zip(log_probs.argmax(-1), lengths.tolist(), strict=True):
            merged = torch.unique_consecutive(path[:length])
            hypotheses.append([index - 1 for index in merged.tolist() if index > 0])
        return hypotheses
