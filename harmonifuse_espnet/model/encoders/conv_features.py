"""Convolutional features of the wav2vec 2.0 family, computed without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit

CHUNK_FRAMES = 50  # 1 s; chunks overlap by 80 samples if frames are 25 ms long
CHUNKS_PER_CALL = DeviceLimit(cpu=2, accelerator=64)


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of one output frame of a stack of convolutions.

    Attributes:
        size: Length in samples.
        hop: Samples from the start of one frame to the start of the next.
    """

    size: int
    hop: int

    @staticmethod
    def of(kernels: Sequence[int], strides: Sequence[int]) -> ReceptiveField:
        """Return the receptive field of convolutions without padding, in the order of the layers.

        Example:
            >>> ReceptiveField.of([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])
            ReceptiveField(size=400, hop=320)
        """
        size, hop = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            size, hop = size + (kernel - 1) * hop, hop * stride
        return ReceptiveField(size, hop)

    def num_frames(self, samples: Tensor) -> Tensor:
        """Return the number of complete frames (B,) of utterances with ``samples`` (B,) samples."""
        return (samples - self.size).div(self.hop, rounding_mode="floor") + 1


def extract_by_chunk(convs: nn.Module, field: ReceptiveField, speech: Tensor, lengths: Tensor) -> Tensor:
    """Compute the features in chunks of :data:`CHUNK_FRAMES` frames: (B, N), ``lengths`` (B,) -> (B, T, C).

    This needs less memory than whole utterances, with the same result if ``convs`` normalises each frame separately.
    Chunks that contain only padding are skipped.
    """
    frames = field.num_frames(lengths)
    longest = int(frames.max())
    chunk = min(CHUNK_FRAMES, longest)
    count = -(-longest // chunk)
    window, step = (chunk - 1) * field.hop + field.size, chunk * field.hop
    padded = F.pad(speech, (0, max(0, (count - 1) * step + window - speech.size(1))))
    needed = length_mask(-(-frames // chunk), count)
    windows = padded.unfold(1, window, step)[:, :count][needed]
    calls = windows.split(CHUNKS_PER_CALL.on(speech.device))
    computed = torch.cat([convs(call) for call in calls]).transpose(1, 2)
    features = computed.new_zeros(len(speech), count, *computed.shape[1:])
    features[needed] = computed
    return features.flatten(1, 2)[:, :longest]


def extract_by_utterance(convs: nn.Module, field: ReceptiveField, speech: Tensor, lengths: Tensor) -> Tensor:
    """Compute the features utterance by utterance: (B, N), ``lengths`` (B,) -> (B, T, C).

    Use it if ``convs`` normalises over time, so that padding or chunks would change the result.
    """
    rows = [convs(row[None, :length])[0].T for row, length in zip(speech, lengths.tolist(), strict=True)]
    return pad_sequence(rows, batch_first=True)
