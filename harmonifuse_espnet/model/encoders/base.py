"""The interface of all speech encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from harmonifuse_espnet.model.activations import BatchShape, Precision


class SpeechEncoder(nn.Module, ABC):
    """Base class of speech encoders, which return the hidden states of every layer.

    Subclasses implement the three methods and set the attributes; ``train/registry.py`` registers them.

    Attributes:
        num_layers: Number of hidden states, L.
        hidden_size: Width of the hidden states, D.
        frame_shift: Seconds from one frame to the next.

    Example:
        >>> class Frames(SpeechEncoder):
        ...     num_layers, hidden_size, frame_shift = 1, 160, 0.01
        ...     def forward(self, speech, lengths):
        ...         return [speech.unflatten(1, (-1, 160))], lengths // 160
        ...     def num_frames(self, length):
        ...         return length // 160
        ...     def activation_bytes(self, batch, precision):
        ...         return batch.utterances * batch.length * precision.element_size(self)
        >>> import torch
        >>> states, lengths = Frames()(torch.zeros(1, 16000), torch.tensor([16000]))
        >>> states[0].shape, lengths
        (torch.Size([1, 100, 160]), tensor([100]))
    """

    num_layers: int
    hidden_size: int
    frame_shift: float

    @abstractmethod
    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Iterable[Tensor], Tensor]:
        """Encode a batch.

        Args:
            speech: Waveforms (B, N) at 16 kHz, or dumped features (B, T0, width).
            lengths: Samples, or dumped frames, of each utterance (B,).

        Returns:
            L states (B, T, D), which may be a one-time iterator, and the number of frames of each utterance (B,). Valid
            frames do not depend on the padding.
        """

    @abstractmethod
    def num_frames(self, length: int) -> int:
        """Return the number of frames T of an utterance of ``length`` samples, or dumped frames.

        The result of pre-trained encoders can be off by one frame.
        """

    @abstractmethod
    def activation_bytes(self, batch: BatchShape, precision: Precision) -> int:
        """Estimate the bytes that a training step keeps for the backward pass, the L states included."""
