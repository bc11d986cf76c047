"""The language model's tokens written in the CTC head's units, so that both can judge the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Spelling:
    """How an answer's tokens are written in CTC units; unit i + 1 is token i of the CTC tokenizer, as in its head.

    Attributes:
        tokens: Units of every token of the language model; none where the CTC head cannot write it.
        opening: Units before the first token: a blank, where CTC's targets begin with one and the answers do not.
    """

    tokens: list[tuple[int, ...]]
    opening: tuple[int, ...] = ()

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a search looks up, made once: a large vocabulary takes longer to sort than a batch to decode.

        Tokens that differ in their last unit only share a stem. A row is added for tokens that no text has.

        Returns:
            All stems, padded with 0 (stems, longest); the row of each token's stem (W + 1,); each token's last unit
            (W + 1,), 0 where it has no spelling.
        """
        tokens = [*self.tokens, ()]
        stems = {stem: row for row, stem in enumerate(sorted({units[:-1] for units in tokens}))}
        longest = max(map(len, stems))
        padded = torch.tensor([[*stem, *[0] * (longest - len(stem))] for stem in stems]).long()
        stem_of = torch.tensor([stems[units[:-1]] for units in tokens])
        return padded, stem_of, torch.tensor([units[-1] if units else 0 for units in tokens])


def spell_tokens(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> Spelling:
    """The spelling of a language model's tokens, where both tokenizers are one or the CTC's units are characters.

    Special and unknown tokens have no spelling. A label or a word of the prompts that is one token has, as transcripts
    may say it too.

    Raises:
        ValueError: if the CTC's units are neither.
    """
    specials = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
    tokens = range(tokenizer.vocab_size)
    if tokenizer.name == ctc_tokenizer.name:
        return Spelling([() if token in specials else (token + 1,) for token in tokens])
    units = _characters(tokenizer, ctc_tokenizer)
    texts = ["" if token in specials else text_of(tokenizer, token) for token in tokens]
    spelled = [tuple(units[c] for c in text) if units.keys() >= set(text) else () for text in texts]
    return Spelling(spelled, _opening(tokenizer, ctc_tokenizer, units))


def text_of(tokenizer: Tokenizer, token: int) -> str:
    """What a token adds to an answer: said twice, the second time has the blank that opens a word."""
    return tokenizer.decode([token, token]).removeprefix(tokenizer.decode([token]))


def _characters(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> dict[str, int]:
    """Character -> its unit."""
    tokens = set(range(ctc_tokenizer.vocab_size)) - {ctc_tokenizer.unk_id}
    units = {text: token + 1 for token in sorted(tokens) if (text := text_of(ctc_tokenizer, token))}
    longest = max(units, key=len)
    if len(longest) > 1:
        raise InputError(
            f"ctc_weight: the language model's tokens ({tokenizer.name}) cannot be written in the CTC head's units "
            f"({ctc_tokenizer.name}), which are neither the same nor single characters, such as {longest!r}; train "
            "with --ctc_tokenizer_type char or without --ctc_tokenizer_type, or decode with ctc_weight 0"
        )
    return units


def _opening(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer, units: Mapping[str, int]) -> tuple[int, ...]:
    """Sentencepiece opens the first word by a blank, as it does every other; most other tokenizers do not."""
    letter = next(character for character in units if character != " ")
    answers, targets = (text_of(side, side.encode(letter)[0]).startswith(" ") for side in (tokenizer, ctc_tokenizer))
    if answers and not targets:
        raise InputError(
            f"ctc_weight: answers in {tokenizer.name} begin with a blank, the CTC head's targets in "
            f"{ctc_tokenizer.name} do not; train with --ctc_tokenizer_type char, or decode with ctc_weight 0"
        )
    return (units[" "],) if targets and not answers else ()
