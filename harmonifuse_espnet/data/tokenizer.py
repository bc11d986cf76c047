"""Tokenizers: sentencepiece trained on a recipe's text, or a language model's own, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError
from harmonifuse_espnet.data.chat_template import read_chat_template

SENTENCEPIECE_FILE = "bpe.model"
HUGGING_FACE_FILE = "tokenizer_config.json"
SPECIAL_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}
SPACE = "\u2581"  # how sentencepiece writes a space


class Tokenizer(Protocol):
    """What text becomes: ids 0 .. ``vocab_size - 1``. ``pad_id`` fills batches and is never a target.

    ``unk_id`` is None where every text can be written. ``preamble_ids`` stand before a prompt, ``opening_ids`` between
    the speech and the answer, which ``eos_id`` ends.
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
        """The ids of a text, without bos and eos."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bos, eos and pad say nothing."""


class SentencePieceTokenizer:
    """A sentencepiece model.

    Args:
        path: The ``.model`` file, or a folder with ``bpe.model``.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is no sentencepiece model, or lacks bos, eos or pad.
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(path) / SENTENCEPIECE_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise MissingFileError(f"{file}: no such tokenizer; train_tokenizer (stage 4) makes it")
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=file.read_bytes())
        except RuntimeError as error:
            raise InputError(
                f"{file}: not a sentencepiece model ({error}); run train_tokenizer (stage 4) again"
            ) from error
        self.name = str(path)
        self.vocab_size = len(self.processor)
        self.unk_id: int | None = self.processor.unk_id()
        self.bos_id, self.eos_id, self.pad_id = (
            self.processor.bos_id(),
            self.processor.eos_id(),
            self.processor.pad_id(),
        )
        if min(self.bos_id, self.eos_id, self.pad_id) < 0:
            raise InputError(f"{file}: lacks bos, eos or pad; make it by train_tokenizer (stage 4)")
        self.preamble_ids: Sequence[int] = ()
        self.opening_ids: Sequence[int] = (self.bos_id,)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without bos and eos."""
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bos, eos and pad say nothing."""
        return self.processor.decode([int(i) for i in ids])

    def __len__(self) -> int:
        return self.vocab_size


class HuggingFaceTokenizer:
    """A language model's own tokenizer. Without a bos or pad token its eos serves.

    Args:
        name: Name on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        chat_template: Put the prompt and the speech where the tokenizer's chat template has the user's message, and the
            answer where it has the assistant's; its end of turn ends the answer.

    Raises:
        OSError: if there is neither.
        ValueError: if it has no eos token, or no chat template where one is asked for.
    """

    def __init__(self, name: str | Path, chat_template: bool = False) -> None:
        from transformers import AutoTokenizer

        self.name = str(name)
        try:
            self.inner = AutoTokenizer.from_pretrained(self.name)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise AccessError(
                f"{name}: neither a tokenizer's folder nor one of the Hugging Face hub ({reason})"
            ) from error
        if self.inner.eos_token_id is None:
            raise InputError(f"{name}: the tokenizer has no eos token, which ends every answer; set one in its folder")
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
        """The ids of a text, without bos and eos."""
        return self.inner.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bos, eos and pad say nothing."""
        ids = [int(i) for i in ids]
        return str(self.inner.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def __len__(self) -> int:
        return self.vocab_size


def load_tokenizer(path_or_name: str | Path, chat_template: bool = False) -> Tokenizer:
    """The tokenizer of a folder that ``train_tokenizer`` wrote, of a ``.model`` file, or of a model on the hub.

    Raises:
        FileNotFoundError: if it looks like a path and is none, or the folder holds no tokenizer.
        ValueError: if the file is no tokenizer, or has no chat template where one is asked for.
        OSError: if the hub does not know the name or cannot be reached.
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
            f"{path}: no tokenizer here, neither {SENTENCEPIECE_FILE} nor {HUGGING_FACE_FILE}; "
            "train_tokenizer (stage 4) makes it"
        )
    return HuggingFaceTokenizer(path_or_name, chat_template)
