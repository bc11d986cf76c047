"""Options of the search for a transcript, checked without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harmonifuse_espnet.common.errors import InputError

# Argument of Hugging Face's generate -> search option that sets it.
OPTION_OF_ARGUMENT = {
    "num_beams": "beam_size",
    "length_penalty": "length_penalty",
    "max_length": "max_length_ratio",
    "max_new_tokens": "max_length_ratio",
}


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search for a transcript.

    Attributes:
        beam_size: Number of hypotheses; 1 is greedy search.
        ctc_weight: Weight of the CTC prefix scores, from 0 (the language model alone) to 1 (CTC alone).
        length_penalty: Length normalisation of beam search: the exponent a in the score of a hypothesis, ``sum of token
            scores / length^a``. 0 ranks by the sum, 1 by the mean, which favours longer hypotheses.
        max_length_ratio: Maximum number of tokens per connector frame.
        generate: Further arguments of Hugging Face's ``generate``, such as ``{"repetition_penalty": 1.2}``.

    Raises:
        InputError: if an option is out of its range, or ``generate`` has an argument that another option sets.
    """

    beam_size: int = 1
    ctc_weight: float = 0.0
    length_penalty: float = 0.0
    max_length_ratio: float = 1.0
    generate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.beam_size, int) or isinstance(self.beam_size, bool) or self.beam_size < 1:
            raise InputError(f"beam_size is {self.beam_size!r}, but must be an integer, 1 (greedy search) or more")
        if not _is_number(self.ctc_weight) or not 0 <= self.ctc_weight <= 1:
            raise InputError(
                f"ctc_weight is {self.ctc_weight!r}, but must be from 0 (the language model alone) to 1 (CTC alone)"
            )
        if not _is_number(self.length_penalty) or self.length_penalty < 0:
            raise InputError(
                f"length_penalty is {self.length_penalty!r}, but must be 0 (sum of the token scores) or more, such as "
                "1 (mean)"
            )
        if not _is_number(self.max_length_ratio) or self.max_length_ratio <= 0:
            raise InputError(
                f"max_length_ratio is {self.max_length_ratio!r}, but must be above 0 tokens for each frame"
            )
        if not isinstance(self.generate, Mapping):
            raise InputError(
                f"generate is {self.generate!r}, but must be a mapping, such as {{repetition_penalty: 1.2}}"
            )
        for name in self.generate:
            if name in OPTION_OF_ARGUMENT:
                raise InputError(f"generate has {name}: {self.generate[name]}; set {OPTION_OF_ARGUMENT[name]} instead")

    def generate_arguments(self) -> dict[str, Any]:
        beams = {"length_penalty": float(self.length_penalty)} if self.beam_size > 1 else {}
        return {**self.generate, "num_beams": self.beam_size, **beams}


def _is_number(value: object) -> bool:
    """Whether a value is a finite number, and no Boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
