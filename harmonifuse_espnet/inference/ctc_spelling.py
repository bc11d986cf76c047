"""Spelling of the language model's tokens in CTC units, for joint CTC/LM decoding with two tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.tokenizer import Tokenizer


class SpellingTables(NamedTuple):
    """A :class:`Spelling` as tensors. The leading units of a token are all its units but the last.

    Tokens that differ only in their last unit share a row. Entry W is for ids beyond the vocabulary.

    Attributes:
        leading_units: All different sequences of leading units, padded with 0 (rows, longest).
        row_of_token: Row of each token in ``leading_units`` (W + 1,).
        last_unit: Last unit of each token, 0 for a token without a spelling (W + 1,).
    """

    leading_units: Tensor
    row_of_token: Tensor
    last_unit: Tensor


@dataclass(frozen=True)
class Spelling:
    """The CTC units of every token of the language model. Unit i + 1 is token i of the CTC tokenizer; 0 is the blank.

    Attributes:
        tokens: Units of each token; () for a token that the CTC head cannot emit.
        initial_units: Units before the first token: a space, if CTC targets start with one and hypotheses do not.
    """

    tokens: list[tuple[int, ...]]
    initial_units: tuple[int, ...] = ()

    @cached_property
    def tables(self) -> SpellingTables:
        """Return the spelling as tensors; cached, since for a large vocabulary this is slower than decoding a batch."""
        tokens = [*self.tokens, ()]
        rows = {leading: row for row, leading in enumerate(sorted({units[:-1] for units in tokens}))}
        longest = max(map(len, rows))
        padded = torch.tensor([[*leading, *[0] * (longest - len(leading))] for leading in rows]).long()
        row_of_token = torch.tensor([rows[units[:-1]] for units in tokens])
        return SpellingTables(padded, row_of_token, torch.tensor([units[-1] if units else 0 for units in tokens]))


def spell_tokens(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> Spelling:
    """Spell the language model's tokens in CTC units; the CTC tokenizer must be the same, or have characters as tokens.

    Special tokens and the unknown token have no spelling. Labels and prompt words that are one token have a spelling,
    since they may occur in transcripts.

    Raises:
        InputError: if the CTC units are neither the language model's tokens nor characters, or only the
            language model's tokenizer puts a space before the first word.
    """
    specials = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
    tokens = range(tokenizer.vocab_size)
    if tokenizer.name == ctc_tokenizer.name:
        return Spelling([() if token in specials else (token + 1,) for token in tokens])
    units = _character_units(tokenizer, ctc_tokenizer)
    texts = ["" if token in specials else token_text(tokenizer, token) for token in tokens]
    spelled = [tuple(units[c] for c in text) if units.keys() >= set(text) else () for text in texts]
    return Spelling(spelled, _initial_units(tokenizer, ctc_tokenizer, units))


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token within a text, with the space before it.

    The token is decoded twice in a row, since decoders strip the space before the first word only.
    """
    return tokenizer.decode([token, token]).removeprefix(tokenizer.decode([token]))


def _character_units(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> dict[str, int]:
    tokens = set(range(ctc_tokenizer.vocab_size)) - {ctc_tokenizer.unk_id}
    units = {text: token + 1 for token in sorted(tokens) if (text := token_text(ctc_tokenizer, token))}
    longest = max(units, key=len)
    if len(longest) > 1:
        raise InputError(
            f"ctc_weight: the language model's tokens ({tokenizer.name}) cannot be spelled in the CTC head's units "
            f"({ctc_tokenizer.name}), which are neither the same nor single characters (one is {longest!r}); train "
            "with --ctc_tokenizer_type char or without --ctc_tokenizer_type, or decode with ctc_weight 0"
        )
    return units


def _initial_units(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer, units: Mapping[str, int]) -> tuple[int, ...]:
    """Return the unit of a space if only the CTC targets start with one.

    Sentencepiece puts a space before every word, the first one included; most other tokenizers put it between words.
    """
    letter = next(character for character in units if character != " ")
    lm_space, ctc_space = (
        token_text(each, each.encode(letter)[0]).startswith(" ") for each in (tokenizer, ctc_tokenizer)
    )
    if lm_space and not ctc_space:
        raise InputError(
            f"ctc_weight: hypotheses start with a space ({tokenizer.name}), but CTC targets do not "
            f"({ctc_tokenizer.name}); train with --ctc_tokenizer_type char, or decode with ctc_weight 0"
        )
    return (units[" "],) if ctc_space and not lm_space else ()
