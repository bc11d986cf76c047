"""Search for a transcript: greedy or beam search, with CTC prefix scores or a repetition limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import LogitsProcessor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.tokenizer import Tokenizer
from harmonifuse_espnet.inference.ctc_prefix import CTCPrefixScores
from harmonifuse_espnet.inference.ctc_spelling import spell_tokens
from harmonifuse_espnet.inference.generation import RepetitionLimit, generate_text
from harmonifuse_espnet.model.harmonifuse import EncoderOutput, HarmoniFuseModel

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
        if not isinstance(self.beam_size, int) or self.beam_size < 1:
            raise InputError(f"beam_size is {self.beam_size!r}, but must be an integer, 1 (greedy search) or more")
        if not 0 <= self.ctc_weight <= 1:
            raise InputError(
                f"ctc_weight is {self.ctc_weight}, but must be from 0 (the language model alone) to 1 (CTC alone)"
            )
        if self.max_length_ratio <= 0:
            raise InputError(f"max_length_ratio is {self.max_length_ratio}, but must be above 0 tokens for each frame")
        for name in self.generate:
            if name in OPTION_OF_ARGUMENT:
                raise InputError(f"generate has {name}: {self.generate[name]}; set {OPTION_OF_ARGUMENT[name]} instead")

    def generate_arguments(self) -> dict[str, Any]:
        beams = {"length_penalty": float(self.length_penalty)} if self.beam_size > 1 else {}
        return {**self.generate, "num_beams": self.beam_size, **beams}


class TextSearch:
    """Searches for the transcripts of a batch.

    Args:
        model: Model in eval mode.
        tokenizer: Tokenizer of the language model.
        ctc_tokenizer: Tokenizer of the CTC head.
        options: Search options.

    Raises:
        InputError: if ``ctc_weight`` is above 0 and the CTC units cannot spell the language model's tokens.
    """

    def __init__(
        self, model: HarmoniFuseModel, tokenizer: Tokenizer, ctc_tokenizer: Tokenizer, options: SearchOptions
    ) -> None:
        self.model, self.tokenizer, self.options = model, tokenizer, options
        self.spelling = spell_tokens(tokenizer, ctc_tokenizer) if options.ctc_weight > 0 else None

    def __call__(self, encoded: EncoderOutput, task: Tensor) -> list[str]:
        """Return the best hypothesis for each of B utterances; ``task`` (B,)."""
        tokens = generate_text(
            self.model,
            encoded,
            task,
            self.tokenizer.eos_id,
            self.options.max_length_ratio,
            logits_processor=[self._processor(encoded)],
            **self.options.generate_arguments(),
        )
        return [self.tokenizer.decode(row) for row in tokens]

    def _processor(self, encoded: EncoderOutput) -> LogitsProcessor:
        if self.spelling is None or encoded.ctc_log_probs is None:
            return RepetitionLimit()
        return CTCPrefixScores(
            encoded.ctc_log_probs,
            encoded.frame_lengths,
            self.spelling,
            self.tokenizer.eos_id,
            self.options.ctc_weight,
        )
