"""Hidden states of a frozen encoder that stage 3 dumped."""

from __future__ import annotations

from torch import Tensor, nn

from harmonifuse_espnet.common.errors import InputError


class PrecomputedEncoder(nn.Module):
    """The layers of a frozen encoder as stage 3 dumped them (``--feats_type ssl``): (B, T, L * D) -> L x (B, T, D)."""

    frame_shift = 0.02  # of all encoders that stage 3 runs

    def __init__(self, num_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """``speech`` (B, T, L * D), ``lengths`` (B,) in frames -> L states (B, T, D), the same lengths.

        Raises:
            ValueError: if the dump's width is not L * D.
        """
        expected = self.num_layers * self.hidden_size
        if speech.size(-1) != expected:
            raise InputError(
                f"the feature dump is {speech.size(-1)} wide, num_layers x hidden_size is "
                f"{self.num_layers} x {self.hidden_size} = {expected}; "
                "run stage 3 with this encoder or correct frontend_conf"
            )
        return list(speech.unflatten(-1, (self.num_layers, self.hidden_size)).unbind(-2)), lengths
