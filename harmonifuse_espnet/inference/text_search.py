"""Search for a transcript: greedy or beam search, with CTC prefix scores or a repetition limit."""

from __future__ import annotations

from torch import Tensor
from transformers import LogitsProcessor

from harmonifuse_espnet.data.tokenizer import Tokenizer
from harmonifuse_espnet.inference.ctc_prefix import CTCPrefixScores
from harmonifuse_espnet.inference.ctc_spelling import spell_tokens
from harmonifuse_espnet.inference.generation import RepetitionLimit, generate_text
from harmonifuse_espnet.inference.search_options import SearchOptions
from harmonifuse_espnet.model.harmonifuse import EncoderOutput, HarmoniFuseModel


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
