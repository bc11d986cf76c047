"""Tokenizer with a sentencepiece model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from harmonifuse_espnet.common.errors import InputError, MissingFileError

SENTENCEPIECE_FILE = "bpe.model"
SPECIAL_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}
SPACE = "\u2581"  # sentencepiece's character for a space


class SentencePieceTokenizer:
    """A sentencepiece model; see :class:`harmonifuse_espnet.data.tokenizer.Tokenizer`.

    Args:
        path: The ``.model`` file, or a folder with ``bpe.model``.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if the file is not a sentencepiece model, or has no bos, eos or pad token.
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(path) / SENTENCEPIECE_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise MissingFileError(f"{file}: no such tokenizer; train_tokenizer (stage 4) creates it")
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=file.read_bytes())
        except RuntimeError as error:
            raise InputError(
                f"{file}: not a sentencepiece model ({error}); run train_tokenizer (stage 4) again"
            ) from error
        self.name = str(path)
        self.vocab_size = len(self.processor)
        self.unk_id: int | None = self.processor.unk_id()
        self.bos_id: int = self.processor.bos_id()
        self.eos_id: int = self.processor.eos_id()
        self.pad_id: int = self.processor.pad_id()
        if min(self.bos_id, self.eos_id, self.pad_id) < 0:
            raise InputError(f"{file}: no bos, eos or pad token; train it with train_tokenizer (stage 4)")
        self.preamble_ids: Sequence[int] = ()
        self.opening_ids: Sequence[int] = (self.bos_id,)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without bos and eos."""
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; bos, eos and pad are skipped."""
        return self.processor.decode([int(i) for i in ids])

    def __len__(self) -> int:
        return self.vocab_size
