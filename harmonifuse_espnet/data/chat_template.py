"""Chat templates: the tokens that an instruction-tuned language model expects around the user's message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harmonifuse_espnet.common.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER, _ASSISTANT = "<<<user message>>>", "<<<assistant message>>>"  # placeholders, found again in the formatted text
# Llama 3's template contains the current date, but prompts must be the same in training and in decoding. This fixed
# date is Llama 3's own default.
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


class ChatTokens(NamedTuple):
    """Tokens around the messages: ``preamble``, user message, ``opening``, assistant message, ``end_of_turn``.

    ``end_of_turn`` is None if the template has no special token after the assistant's message.
    """

    preamble: list[int]
    opening: list[int]
    end_of_turn: int | None


def read_chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTokens:
    """Split a tokenizer's template at the user's and at the assistant's message.

    Raises:
        InputError: if the tokenizer has no template, or the template changes the messages.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; leave out --chat_template, or use the "
            "instruction-tuned version of the language model"
        )
    user, assistant = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ASSISTANT}
    before, after = _split_at(tokenizer, _USER, [user], add_generation_prompt=True)
    _, closing = _split_at(tokenizer, _ASSISTANT, [user, assistant])
    preamble, opening, end = (tokenizer.encode(text, add_special_tokens=False) for text in (before, after, closing))
    special = bool(end) and end[0] in tokenizer.added_tokens_decoder
    return ChatTokens(preamble, opening, end[0] if special else None)


def _split_at(
    tokenizer: PreTrainedTokenizerBase, message: str, conversation: Sequence[Mapping[str, str]], **options: bool
) -> tuple[str, str]:
    """Return the template's text before and after a message."""
    template = _FIXED_DATE + tokenizer.get_chat_template()
    text = str(tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False, **options))
    if text.count(message) != 1:
        raise InputError(
            f"{tokenizer.name_or_path}: the chat template changes the message {message!r}: {text!r}; leave out "
            "--chat_template"
        )
    before, _, after = text.partition(message)
    return before, after
