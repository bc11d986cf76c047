"""Chat templates: which tokens an instruction-tuned language model expects around what is said to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harmonifuse_espnet.common.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER, _ASSISTANT = "<<<what the user says>>>", "<<<what the assistant says>>>"  # stand-ins, found again in the text
# Llama 3's template writes today's date; a model has to be asked tomorrow as it was trained today. (The date is the one
# that Llama 3 writes where it knows none.)
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


class ChatTokens(NamedTuple):
    """Tokens of a conversation of one question: ``preamble`` question ``opening`` answer ``end_of_turn``.

    ``end_of_turn`` is None where the template ends an answer with nothing special.
    """

    preamble: list[int]
    opening: list[int]
    end_of_turn: int | None


def read_chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTokens:
    """Split a tokenizer's template at the user's and at the assistant's message.

    Raises:
        ValueError: if the tokenizer has no template, or the template changes the messages.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; leave out --chat_template, or take the "
            "instruction-tuned version of the language model"
        )
    question = {"role": "user", "content": _USER}
    before, after = _around(tokenizer, _USER, [question], add_generation_prompt=True)
    _, closing = _around(tokenizer, _ASSISTANT, [question, {"role": "assistant", "content": _ASSISTANT}])
    preamble, opening, end = (tokenizer.encode(text, add_special_tokens=False) for text in (before, after, closing))
    special = bool(end) and end[0] in tokenizer.added_tokens_decoder
    return ChatTokens(preamble, opening, end[0] if special else None)


def _around(
    tokenizer: PreTrainedTokenizerBase, message: str, turns: Sequence[Mapping[str, str]], **options: bool
) -> tuple[str, str]:
    """What the template writes before and after a message."""
    template = _FIXED_DATE + tokenizer.get_chat_template()
    text = str(tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, **options))
    if text.count(message) != 1:
        raise InputError(f"{tokenizer.name_or_path}: the chat template turns {message!r} into {text!r}; leave it out")
    before, _, after = text.partition(message)
    return before, after
