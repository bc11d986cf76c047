"""A language model's own tokenizer, from Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.errors import AccessError, InputError
from harmonifuse_espnet.common.remote_code import no_remote_code
from harmonifuse_espnet.data.chat_template import read_chat_template

HUGGING_FACE_FILE = "tokenizer_config.json"


class HuggingFaceTokenizer:
    """A language model's own tokenizer; see :class:`harmonifuse_espnet.data.tokenizer.Tokenizer`.

    eos replaces a missing bos or pad token.

    Args:
        name: Name on the Hugging Face Hub, or a folder written by ``save_pretrained``.
        chat_template: Put the prompt and the speech into the user's message of the tokenizer's chat template, and the
            target into the assistant's message; ``eos_id`` is then the token that ends the assistant's message.

    Raises:
        AccessError: if the name or folder does not exist, or the Hub cannot be reached.
        InputError: if the tokenizer needs code of its author, has no eos token, or has no chat template although
            ``chat_template`` is True.
    """

    def __init__(self, name: str | Path, chat_template: bool = False) -> None:
        from transformers import AutoTokenizer, PreTrainedTokenizerBase

        self.name = str(name)
        try:
            with no_remote_code():
                self.inner = AutoTokenizer.from_pretrained(self.name, trust_remote_code=False)
        except (OSError, ValueError, RecursionError) as error:
            if "trust_remote_code" in str(error) or isinstance(error, RecursionError):  # tokenizer_class: AutoTokenizer
                raise InputError(
                    f"{name}: this tokenizer needs code of its author, which is not run; use a tokenizer whose class "
                    "is part of Hugging Face transformers"
                ) from error
            reason = str(error).strip().splitlines()[0]
            raise AccessError(
                f"{name}: neither a folder with a tokenizer nor a name on the Hugging Face Hub ({reason})"
            ) from error
        if not isinstance(self.inner, PreTrainedTokenizerBase):
            raise InputError(
                f"{name}: tokenizer_config.json names {type(self.inner).__name__} as tokenizer_class, which is no "
                "tokenizer; correct it, or use another tokenizer"
            )
        if self.inner.eos_token_id is None:
            raise InputError(f"{name}: the tokenizer has no eos token, which ends every target; set one in its folder")
        self.vocab_size = len(self.inner)
        self.eos_id: int = self.inner.eos_token_id
        self.bos_id: int = self.eos_id if self.inner.bos_token_id is None else self.inner.bos_token_id
        self.pad_id: int = self.eos_id if self.inner.pad_token_id is None else self.inner.pad_token_id
        self.unk_id: int | None = self.inner.unk_token_id
        self.preamble_ids: Sequence[int] = ()
        self.opening_ids: Sequence[int] = (self.bos_id,)
        if chat_template:
            self.preamble_ids, self.opening_ids, end_of_turn = read_chat_template(self.inner)
            self.eos_id = self.eos_id if end_of_turn is None else end_of_turn

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without bos and eos."""
        return self.inner.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; bos, eos and pad are skipped."""
        ids = [int(i) for i in ids]
        return str(self.inner.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def __len__(self) -> int:
        return self.vocab_size
