"""Hidden states of a frozen encoder, dumped by stage 3."""

from __future__ import annotations

from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.activations import BatchShape, Precision
from harmonifuse_espnet.model.encoders.base import SpeechEncoder


class PrecomputedEncoder(SpeechEncoder):
    """Hidden states that stage 3 dumped (``--feats_type ssl``): (B, T, L * D) -> L x (B, T, D).

    Args:
        num_layers: Number of dumped layers, L.
        hidden_size: Width of each, D.

    Example:
        >>> import torch
        >>> states, lengths = PrecomputedEncoder(num_layers=3, hidden_size=16)(torch.zeros(1, 5, 48), torch.tensor([5]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 5, 16]), torch.Size([1, 5, 16]), torch.Size([1, 5, 16])], tensor([5]))
    """

    frame_shift = 0.02  # of all encoders that stage 3 runs

    def __init__(self, num_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Split ``speech`` (B, T, L * D), ``lengths`` (B,) in frames -> L states (B, T, D), the same lengths.

        Raises:
            InputError: if the width of the dump is not L * D.
        """
        expected = self.num_layers * self.hidden_size
        if speech.size(-1) != expected:
            raise InputError(
                f"the feature dump is {speech.size(-1)} wide, num_layers x hidden_size is "
                f"{self.num_layers} x {self.hidden_size} = {expected}; "
                "run stage 3 with this encoder or correct frontend_conf"
            )
        return list(speech.unflatten(-1, (self.num_layers, self.hidden_size)).unbind(-2)), lengths

    def num_frames(self, length: int) -> int:
        """Return ``length``, the number of dumped frames."""
        return length

    def activation_bytes(self, batch: BatchShape, precision: Precision) -> int:
        """Estimate the bytes of the states: ``L B T D a``."""
        return batch.utterances * batch.length * self.num_layers * self.hidden_size * precision.element_size(self)
