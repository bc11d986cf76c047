"""Tokenizer interface, and loading of a tokenizer from a path or the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.data.hugging_face_tokenizer import HUGGING_FACE_FILE, HuggingFaceTokenizer
from harmonifuse_espnet.data.sentencepiece_tokenizer import SENTENCEPIECE_FILE, SentencePieceTokenizer


class Tokenizer(Protocol):
    """Interface of the tokenizers, which convert text to token ids and back.

    Attributes:
        name: Path or name, for error messages.
        vocab_size: Number of tokens.
        preamble_ids: Tokens before the prompt.
        opening_ids: Tokens between the speech and the target.
        bos_id: Beginning of sequence.
        eos_id: End of a target.
        pad_id: Padding; may equal ``eos_id``.
        unk_id: Unknown token; None if every text can be encoded.
    """

    name: str
    vocab_size: int
    preamble_ids: Sequence[int]
    opening_ids: Sequence[int]
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int | None

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without bos and eos."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; bos, eos and pad are skipped."""


def encode_exactly(tokenizer: Tokenizer, text: str, what: str) -> list[int]:
    """Return the ids of a prompt or label, from which the tokenizer restores it.

    Args:
        tokenizer: Tokenizer of the language model.
        text: Prompt or label.
        what: What the text is, for the error message.

    Raises:
        InputError: if the text is empty, or decoding does not restore it; the message names the unknown words.
    """
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    if ids and decoded == text:
        return ids
    if not text.strip():
        raise InputError(f"{what} is empty; give at least one word")
    words = [word for word in text.split() if tokenizer.decode(tokenizer.encode(word)).strip() != word]
    unknown = f"it cannot write {', '.join(map(repr, words))}" if words else f"it reads {decoded!r}"
    raise InputError(
        f"{what}, {text!r}, is changed by the tokenizer {tokenizer.name}: {unknown}; use other words, or the case and "
        "characters of its training text"
    )


def load_tokenizer(path_or_name: str | Path, chat_template: bool = False) -> Tokenizer:
    """Load a tokenizer from a folder of stage 4, a ``.model`` file, or the Hugging Face Hub.

    Args:
        path_or_name: Path, or name on the Hub.
        chat_template: See :class:`harmonifuse_espnet.data.hugging_face_tokenizer.HuggingFaceTokenizer`.

    Raises:
        MissingFileError: if ``path_or_name`` looks like a path and does not exist, or the folder has no tokenizer.
        InputError: if the file is not a tokenizer, or has no chat template although ``chat_template`` is True.
        AccessError: if the Hub does not have the name or cannot be reached.
    """
    path = Path(path_or_name)
    if path.is_file() or path.suffix == ".model" or (path / SENTENCEPIECE_FILE).is_file():
        if chat_template:
            raise InputError(
                f"{path}: a sentencepiece model has no chat template; leave out --chat_template, or use the language "
                "model's own tokenizer (stage 4 with --tokenizer_type llm)"
            )
        return SentencePieceTokenizer(path_or_name)
    looks_like_path = path.exists() or path.is_absolute() or str(path_or_name).startswith(".") or len(path.parts) > 2
    if looks_like_path and not (path / HUGGING_FACE_FILE).is_file():
        raise MissingFileError(
            f"{path}: no tokenizer in this folder, neither {SENTENCEPIECE_FILE} nor {HUGGING_FACE_FILE}; "
            "train_tokenizer (stage 4) creates it"
        )
    return HuggingFaceTokenizer(path_or_name, chat_template)
