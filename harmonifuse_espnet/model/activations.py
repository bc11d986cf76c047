"""Units in which every component estimates the memory that it keeps for the backward pass.

Each ``activation_bytes`` states its formula; ``train/memory_plan.py`` adds them up. Letters beyond the package's:

    a bytes of an activation (:meth:`Precision.element_size`), I feed-forward width, X target tokens in the batch,
    T' connector frames
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harmonifuse_espnet.model.pretrained import Pretrained


@dataclass(frozen=True)
class BatchShape:
    """Size of a batch of one process.

    Attributes:
        utterances: B.
        length: Samples, or dumped frames, of each utterance.
        tokens: Target tokens of each utterance.
        prompt: All tokens around the speech of an utterance: preamble, prompt and opening.
    """

    utterances: int
    length: int
    tokens: int
    prompt: int


@dataclass(frozen=True)
class Precision:
    """Device and precision of a training.

    Attributes:
        gpu: Whether it runs on GPUs.
        amp: ESPnet's ``use_amp``.
    """

    gpu: bool
    amp: bool

    def element_size(self, part: nn.Module) -> int:
        """Return the bytes of one activation of a component: 2 in bfloat16, 4 in float32.

        On a GPU, frozen pre-trained models compute in bfloat16, and all components do under autocast.
        """
        return 2 if self.gpu and (self.amp or (isinstance(part, Pretrained) and part.frozen)) else 4


def attention_scores(frames: int, width: int) -> int:
    """Return the number of self-attention scores of one utterance in one layer, with heads of width 64.

    Example:
        >>> attention_scores(frames=50, width=128)
        5000
    """
    return max(1, frames * frames * width // 64)
