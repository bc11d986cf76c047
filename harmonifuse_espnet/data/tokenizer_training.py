"""Training a sentencepiece tokenizer, and checks of any tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import sentencepiece

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.tasks import Tasks
from harmonifuse_espnet.data.tokenizer import SPACE, SPECIAL_IDS, Tokenizer

MODEL_TYPES = ("unigram", "bpe", "char")


_RESERVED = {SPACE: "it stands for a blank", "\u2585": "it is reserved", "\0": "it ends a string"}


def train_sentencepiece(texts: Iterable[str], symbols: Iterable[str], vocab_size: int, model_type: str) -> bytes:
    """Train a sentencepiece model that writes every symbol as one token and changes no text.

    A symbol becomes a user-defined piece, a blank and its words: one token at the beginning of an answer and as a word
    of a transcript, decoded with its blank, never the end of a longer word. Ids: unk 0, bos 1, eos 2, pad 3, then the
    symbols. Small corpora give fewer pieces than ``vocab_size``. The result is a function of the arguments.

    Args:
        texts: What has to be written, one sentence each.
        symbols: The words of every label, and every word of the prompts, which no text teaches to write in short.
        vocab_size: The largest number of pieces.
        model_type: ``unigram``, ``bpe`` or ``char``.

    Raises:
        ValueError: if the characters and symbols don't fit into ``vocab_size``, or a text has a reserved character.
    """
    texts, symbols = list(texts), [SPACE + symbol.replace(" ", SPACE) for symbol in dict.fromkeys(symbols)]
    characters = set().union(*texts)
    for character in sorted(characters & set(_RESERVED)):
        text = next(text for text in texts if character in text)
        raise InputError(f"'{text}' has the character {character!r}: {_RESERVED[character]}; take it out of the text")
    characters.discard(" ")
    needed = len(SPECIAL_IDS) + len(symbols) + len(characters) + 1
    if vocab_size < needed:
        raise InputError(
            f"--vocab_size {vocab_size} is too small: {len(characters)} characters, a blank, "
            f"{len(symbols)} labels and words of prompts, and {len(SPECIAL_IDS)} special tokens need {needed}; "
            "give at least that"
        )
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocab_size,
        model_type=model_type,
        user_defined_symbols=symbols,
        **_TRAINING,
        **SPECIAL_IDS,
    )
    return model.getvalue()


_TRAINING: Mapping[str, Any] = {
    "character_coverage": 1.0,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "hard_vocab_limit": False,
    "max_sentence_length": 1 << 20,  # bytes; longer ones would be left out
    "num_threads": 4,  # fixed: sums over threads decide the last digits of the pieces' scores
    "minloglevel": 2,
}


def check_labels(tokenizer: Tokenizer, tasks: Tasks) -> None:
    """Check that a task's labels can be told apart, as its answers are one of them.

    Raises:
        ValueError: if a label has no tokens, or two labels of a task have the same.
    """
    for task in tasks.values():
        seen: dict[tuple[int, ...], str] = {}
        for label, words in task.labels.items():
            ids = tuple(tokenizer.encode(words))
            if not ids:
                raise InputError(
                    f"task '{task.name}': label '{label}' ({words!r}) has no tokens in {tokenizer.name}; reword it"
                )
            if ids in seen:
                raise InputError(
                    f"task '{task.name}': labels '{seen[ids]}' and '{label}' are the same tokens {list(ids)} in "
                    f"{tokenizer.name}; reword one of them"
                )
            seen[ids] = label


def check_round_trip(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """Check that encoding loses nothing.

    Raises:
        ValueError: if a text comes back changed; says which.
    """
    for text in texts:
        back = tokenizer.decode(tokenizer.encode(text))
        if back != text:
            raise InputError(f"the tokenizer turns {text!r} into {back!r}; take unusual characters out of the text")
