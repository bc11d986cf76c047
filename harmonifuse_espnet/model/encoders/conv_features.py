"""The convolutions of the wav2vec 2.0 family over a batch of waveforms, without its padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harmonifuse_espnet.common.masks import length_mask

PIECE = 50  # frames, 1 s: neighbours share 80 of 16,000 samples in models of 25 ms frames
PIECES = {"cpu": 2, "cuda": 64}  # in one call: few to stay in the CPU's caches, many to keep a GPU busy


@dataclass(frozen=True)
class ReceptiveField:
    """What a frame hears: ``size`` samples, ``hop`` samples after those of the frame before."""

    size: int
    hop: int

    @staticmethod
    def of(kernels: Sequence[int], strides: Sequence[int]) -> ReceptiveField:
        """The field of convolutions one after another.

        Example:
            >>> ReceptiveField.of([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])
            ReceptiveField(size=400, hop=320)
        """
        size, hop = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            size, hop = size + (kernel - 1) * hop, hop * stride
        return ReceptiveField(size, hop)

    def frames(self, samples: Tensor) -> Tensor:
        """How many frames have all their samples."""
        return (samples - self.size).div(self.hop, rounding_mode="floor") + 1


def by_pieces(convs: nn.Module, field: ReceptiveField, speech: Tensor, lengths: Tensor) -> Tensor:
    """Features of layer-normalised convolutions, which look no farther than their field: (B, N) -> (B, T, C).

    Pieces of :data:`PIECE` frames give the same as the whole, in a fraction of the memory; those beyond an utterance's
    end are not run.
    """
    frames = field.frames(lengths)
    longest = int(frames.max())
    piece = min(PIECE, longest)
    count = -(-longest // piece)
    window, step = (piece - 1) * field.hop + field.size, piece * field.hop
    padded = F.pad(speech, (0, max(0, (count - 1) * step + window - speech.size(1))))
    needed = length_mask(-(-frames // piece), count)
    windows = padded.unfold(1, window, step)[:, :count][needed]
    made = torch.cat([convs(some) for some in windows.split(PIECES[speech.device.type])]).transpose(1, 2)
    features = made.new_zeros(len(speech), count, *made.shape[1:])
    features[needed] = made
    return features.flatten(1, 2)[:, :longest]


def by_utterance(convs: nn.Module, field: ReceptiveField, speech: Tensor, lengths: Tensor) -> Tensor:
    """Features of convolutions that normalise over time, each utterance by itself: (B, N) -> (B, T, C)."""
    rows = [convs(row[None, :length])[0].T for row, length in zip(speech, lengths.tolist(), strict=True)]
    return pad_sequence(rows, batch_first=True)
