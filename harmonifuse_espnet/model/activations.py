"""Batch shape and precision for estimates of activation memory, which is kept for the backward pass.

The docstring of each ``activation_bytes`` has its formula; ``train/memory_plan.py`` adds them up. Additional letters:

    a bytes of an activation (:meth:`Precision.element_size`), I feed-forward width, X target tokens in the batch,
    T' connector frames
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harmonifuse_espnet.model.pretrained import Pretrained


@dataclass(frozen=True)
class BatchShape:
    """Size of the batch of one process.

    Attributes:
        utterances: B.
        length: Samples, or dumped frames, of each utterance.
        tokens: Target tokens of each utterance.
        prompt: Tokens of preamble, prompt and opening of each utterance.
    """

    utterances: int
    length: int
    tokens: int
    prompt: int


@dataclass(frozen=True)
class Precision:
    """Device and precision of training.

    Attributes:
        gpu: Whether it runs on GPUs.
        amp: ESPnet's ``use_amp``.
    """

    gpu: bool
    amp: bool

    def element_size(self, part: nn.Module) -> int:
        """Return the bytes of one activation of a component: 2 in bfloat16, 4 in float32.

        On a GPU, frozen pre-trained models are bfloat16; with autocast, all components are.
        """
        return 2 if self.gpu and (self.amp or (isinstance(part, Pretrained) and part.frozen)) else 4


def num_attention_scores(frames: int, width: int) -> int:
    """Return the number of self-attention scores of one utterance in one layer, with heads of width 64.

    Example:
        >>> num_attention_scores(frames=50, width=128)
        5000
    """
    return max(1, frames * frames * width // 64)
