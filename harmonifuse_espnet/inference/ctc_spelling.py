"""Spelling of the language model's tokens in CTC units, for joint CTC/LM search with two tokenizers."""

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
    """A :class:`Spelling` as tensors. A stem is the sequence of all units of a token but the last.

    Tokens that differ only in their last unit share a stem. The last row is for ids beyond the vocabulary.

    Attributes:
        stems: All different stems, padded with 0 (stems, longest).
        stem_of: Row of each token's stem (W + 1,).
        last_unit: Last unit of each token, 0 for a token without a spelling (W + 1,).
    """

    stems: Tensor
    stem_of: Tensor
    last_unit: Tensor


@dataclass(frozen=True)
class Spelling:
    """The CTC units of every token of the language model. Unit i + 1 is token i of the CTC tokenizer; 0 is the blank.

    Attributes:
        tokens: Units of each token; () for a token that the CTC head cannot emit.
        opening: Units before the first token: a space, if the CTC targets start with one and the language model's
            hypotheses do not.
    """

    tokens: list[tuple[int, ...]]
    opening: tuple[int, ...] = ()

    @cached_property
    def tables(self) -> SpellingTables:
        """Return the spelling as tensors, cached: for a large vocabulary they take longer than decoding a batch."""
        tokens = [*self.tokens, ()]
        stems = {stem: row for row, stem in enumerate(sorted({units[:-1] for units in tokens}))}
        longest = max(map(len, stems))
        padded = torch.tensor([[*stem, *[0] * (longest - len(stem))] for stem in stems]).long()
        stem_of = torch.tensor([stems[units[:-1]] for units in tokens])
        return SpellingTables(padded, stem_of, torch.tensor([units[-1] if units else 0 for units in tokens]))


def spell_tokens(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> Spelling:
    """Spell the language model's tokens in units of the CTC tokenizer, which must be the same or one of characters.

    Special and unknown tokens have no spelling. Labels and words of the prompts that are one token have one, since they
    also occur in transcripts.

    Raises:
        InputError: if the CTC units are neither the language model's tokens nor characters, or the first word starts
            with a space for the language model only.
    """
    specials = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
    tokens = range(tokenizer.vocab_size)
    if tokenizer.name == ctc_tokenizer.name:
        return Spelling([() if token in specials else (token + 1,) for token in tokens])
    units = _character_units(tokenizer, ctc_tokenizer)
    texts = ["" if token in specials else token_text(tokenizer, token) for token in tokens]
    spelled = [tuple(units[c] for c in text) if units.keys() >= set(text) else () for text in texts]
    return Spelling(spelled, _opening(tokenizer, ctc_tokenizer, units))


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return the text that a token appends to a text.

    The token is decoded twice in a row: decoders strip the space before the first word, but not before the second.
    """
    return tokenizer.decode([token, token]).removeprefix(tokenizer.decode([token]))


def _character_units(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer) -> dict[str, int]:
    """Return character -> unit."""
    tokens = set(range(ctc_tokenizer.vocab_size)) - {ctc_tokenizer.unk_id}
    units = {text: token + 1 for token in sorted(tokens) if (text := token_text(ctc_tokenizer, token))}
    longest = max(units, key=len)
    if len(longest) > 1:
        raise InputError(
            f"ctc_weight: the language model's tokens ({tokenizer.name}) cannot be spelled in the CTC head's units "
            f"({ctc_tokenizer.name}), which are neither the same nor single characters, such as {longest!r}; train "
            "with --ctc_tokenizer_type char or without --ctc_tokenizer_type, or decode with ctc_weight 0"
        )
    return units


def _opening(tokenizer: Tokenizer, ctc_tokenizer: Tokenizer, units: Mapping[str, int]) -> tuple[int, ...]:
    """Return the unit of a space if only the CTC targets start with one.

    Sentencepiece puts a space before every word, the first one included; most other tokenizers put it between words.
    """
    letter = next(character for character in units if character != " ")
    lm_space, ctc_space = (token_text(one, one.encode(letter)[0]).startswith(" ") for one in (tokenizer, ctc_tokenizer))
    if lm_space and not ctc_space:
        raise InputError(
            f"ctc_weight: hypotheses in {tokenizer.name} start with a space, the CTC head's targets in "
            f"{ctc_tokenizer.name} do not; train with --ctc_tokenizer_type char, or decode with ctc_weight 0"
        )
    return (units[" "],) if ctc_space and not lm_space else ()
