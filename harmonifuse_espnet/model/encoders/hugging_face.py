"""Base class of the pre-trained encoders of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harmonifuse_espnet.model.pretrained import Pretrained


class HuggingFaceEncoder(Pretrained):
    """Base class: an encoder of Hugging Face behind the interface of all frontends.

    Args:
        encoder: What is run.
        num_layers: L.
        hidden_size: D.
        freeze: Run it without gradients and in eval mode.
        restorable: Whether the weights came by name; checkpoints leave them out when frozen.
        gradient_checkpointing: In training, run each layer a second time in the backward pass instead of keeping what
            is inside it.
    """

    frame_shift = 0.02

    def __init__(
        self,
        encoder: Any,
        num_layers: int,
        hidden_size: int,
        freeze: bool,
        restorable: bool,
        gradient_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.num_layers, self.hidden_size = num_layers, hidden_size
        self.frozen, self.restorable = freeze, freeze and restorable
        self.gradient_checkpointing = gradient_checkpointing
        if freeze:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> HuggingFaceEncoder:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Iterator[Tensor], Tensor]:
        """``speech`` (B, N) at 16 kHz, ``lengths`` (B,) in samples -> L states (B, T, D), lengths in 20 ms frames.

        States are zero beyond an utterance's end, and of the precision of the weights.
        """
        with torch.no_grad(), torch.autocast(speech.device.type, enabled=False):
            inputs = self.prepare(speech.float(), lengths).to(next(self.encoder.parameters()).dtype)
        states = self.states(inputs, lengths)
        return without_grad(states, speech.device.type) if self.frozen else states, self.frames(lengths)

    def frames(self, lengths: Tensor) -> Tensor:
        """Samples of each utterance (B,) -> frames (B,)."""
        raise NotImplementedError

    def prepare(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """``speech`` (B, N) in float32, ``lengths`` (B,) -> what the encoder reads, in float32."""
        raise NotImplementedError

    def states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Run the encoder on what ``prepare`` made; ``lengths`` (B,) in samples."""
        raise NotImplementedError

    def run_layer(self, layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """``layer(*inputs)``, checkpointed where that is asked for."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def without_grad(states: Iterator[Tensor], device: str) -> Iterator[Tensor]:
    """Run a generator without gradients, and outside autocast, which would take the norms of a model in bfloat16 to
    float32; both hold while it runs, not between two states, for whoever asks for them."""
    while True:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            state = next(states, None)
        if state is None:
            return
        yield state
