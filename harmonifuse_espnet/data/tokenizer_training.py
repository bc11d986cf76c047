"""Stage 4: train a sentencepiece tokenizer, or save the tokenizer of a language model, and check it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.data.hugging_face_tokenizer import HUGGING_FACE_FILE, HuggingFaceTokenizer
from harmonifuse_espnet.data.sentencepiece_tokenizer import (
    SENTENCEPIECE_FILE,
    SPACE,
    SPECIAL_IDS,
    SentencePieceTokenizer,
)
from harmonifuse_espnet.data.tasks import Tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, encode_exactly

MODEL_TYPES = ("unigram", "bpe", "char")
TOKENS_FILE = "tokens.txt"
_RESERVED = {SPACE: "it represents a space", "\u2585": "it is reserved", "\0": "it ends a string"}
_TRAINING: Mapping[str, Any] = {
    "character_coverage": 1.0,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "hard_vocab_limit": False,
    "max_sentence_length": 1 << 20,  # bytes; sentencepiece ignores longer texts
    "num_threads": 4,  # constant, because it changes the last digits of the pieces' scores
    "minloglevel": 2,
}


def train_tokenizer(
    transcripts: Sequence[str], tasks: Tasks, out_dir: Path, vocab_size: int, model_type: str, fresh: bool = False
) -> SentencePieceTokenizer:
    """Train a sentencepiece model, check it, and write it to ``out_dir`` with a list of its pieces.

    Args:
        transcripts: Training text.
        tasks: Table of tasks. Each label, and each word of a prompt, becomes one token.
        out_dir: Folder to write.
        vocab_size, model_type: As in :func:`train_sentencepiece`.
        fresh: Whether to replace a different tokenizer in ``out_dir``.

    Raises:
        InputError: if the vocabulary is too small, encoding changes a text or label, or ``out_dir`` has a different
            tokenizer.
        AccessError: if the folder cannot be written.
    """
    prompts = [prompt for task in tasks.values() for prompt in task.prompts]
    labels = [text for task in tasks.values() for text in task.labels.values()]
    # Without transcripts, prompt words are not symbols: sentencepiece crashes if all texts consist of symbols.
    words = [word for prompt in prompts for word in prompt.split()] if transcripts else []
    held_out = {char for task in tasks.values() for prompt in task.held_out_prompts for char in prompt}
    symbols = {*labels, *words}
    learned = {char for text in transcripts for word in text.split() if word not in symbols for char in word}
    required = held_out - learned  # characters that are only within symbols are not learned
    texts = [*transcripts, *prompts, *sorted(required - {" "})]
    model = train_sentencepiece(texts, [*labels, *words], vocab_size, model_type)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SENTENCEPIECE_FILE).write_bytes(model)
        tokenizer = SentencePieceTokenizer(folder)
    tokenizer.name = str(out_dir)
    check_tokenizer(tokenizer, transcripts, tasks)
    pieces = "".join(f"{tokenizer.processor.id_to_piece(i)}\n" for i in range(len(tokenizer)))
    _write_tokenizer(out_dir, {TOKENS_FILE: pieces, SENTENCEPIECE_FILE: model}, fresh)
    return tokenizer


def save_llm_tokenizer(
    llm: str, transcripts: Sequence[str], tasks: Tasks, out_dir: Path, fresh: bool = False
) -> HuggingFaceTokenizer:
    """Check a language model's tokenizer, save it to ``out_dir``, and remove a trained tokenizer from it.

    Raises:
        InputError: if it has no eos token, two labels of a task have the same tokens, encoding changes a text, or
            ``out_dir`` has a different tokenizer and ``fresh`` is false.
        AccessError: if the model does not exist, or the folder cannot be written.
    """
    tokenizer = HuggingFaceTokenizer(llm)
    check_tokenizer(tokenizer, transcripts, tasks)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.inner.save_pretrained(folder)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    files[HUGGING_FACE_FILE] = files.pop(HUGGING_FACE_FILE)  # written last, because it marks a complete folder
    _write_tokenizer(out_dir, files, fresh)
    with writing(out_dir):
        for name in (TOKENS_FILE, SENTENCEPIECE_FILE):
            (out_dir / name).unlink(missing_ok=True)
    return tokenizer


def _write_tokenizer(out_dir: Path, files: Mapping[str, str | bytes], fresh: bool) -> None:
    """Write the files of a tokenizer; keep a different tokenizer, which models may have been trained with."""
    contents = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    for name in (*contents, SENTENCEPIECE_FILE, HUGGING_FACE_FILE):
        old = (out_dir / name).read_bytes() if (out_dir / name).is_file() else None
        if old is None or old == contents.get(name) or fresh:
            continue
        sums = [hashlib.sha256(content).hexdigest()[:16] for content in (old, contents.get(name, b""))]
        raise InputError(
            f"{out_dir / name} is of a tokenizer of other texts or options (checksum {sums[0]}, the new one {sums[1]}),"
            " which models may have been trained with; replace it with --fresh true and train these models again, or "
            "choose another folder (run.sh: --datadir)"
        )
    with lock_folder(out_dir):
        write_files(out_dir, contents)


def read_llm_name(train_config: str | Path) -> str:
    """Return the language model's name or folder, ``decoder_conf.model``, of a training configuration.

    Raises:
        MissingFileError: if the configuration does not exist.
        InputError: if it cannot be read, or has no ``decoder_conf.model``.
    """
    llm = (read_config(train_config).get("decoder_conf") or {}).get("model")
    if not llm:
        raise InputError(f"{train_config}: decoder_conf has no 'model'; give --llm")
    return str(llm)


def train_sentencepiece(texts: Iterable[str], symbols: Iterable[str], vocab_size: int, model_type: str) -> bytes:
    """Train a sentencepiece model that encodes every symbol as one token and reproduces every text.

    A symbol becomes a user-defined piece that starts with a space, so that it matches whole targets and words of
    transcripts, but not the end of a longer word. Ids: unk 0, bos 1, eos 2, pad 3, then the symbols. Small corpora give
    fewer pieces than ``vocab_size``. Training is deterministic.

    Args:
        texts: Sentences for training.
        symbols: Texts of labels and words of prompts, which are rare in ``texts``.
        vocab_size: Maximum number of pieces.
        model_type: ``unigram``, ``bpe`` or ``char``.

    Raises:
        InputError: if the characters and symbols exceed ``vocab_size``, or a text has a reserved character.
    """
    texts, symbols = list(texts), [SPACE + symbol.replace(" ", SPACE) for symbol in dict.fromkeys(symbols)]
    characters = set().union(*texts)
    for character in sorted(characters & set(_RESERVED)):
        text = next(text for text in texts if character in text)
        raise InputError(f"'{text}' has the character {character!r}: {_RESERVED[character]}; remove it from the text")
    characters.discard(" ")
    needed = len(SPECIAL_IDS) + len(symbols) + len(characters) + 1
    if vocab_size < needed:
        raise InputError(
            f"--vocab_size {vocab_size} is too small: {len(characters)} characters, a space, "
            f"{len(symbols)} labels and words of prompts, and {len(SPECIAL_IDS)} special tokens need {needed}; "
            f"give at least {needed}"
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


def check_tokenizer(tokenizer: Tokenizer, transcripts: Iterable[str], tasks: Tasks) -> None:
    """Check that a tokenizer restores all transcripts, prompts and labels, and tells the labels of a task apart.

    Raises:
        InputError: if it does not; the message has the text.
    """
    check_round_trip(tokenizer, transcripts)
    for task in tasks.values():
        for kind, texts in (("prompt", task.prompts), ("held-out prompt", task.held_out_prompts)):
            for text in texts:
                encode_exactly(tokenizer, text, f"a {kind} of task '{task.name}'")
        for label, text in task.labels.items():
            encode_exactly(tokenizer, text, f"label '{label}' of task '{task.name}'")
    check_labels(tokenizer, tasks)


def check_labels(tokenizer: Tokenizer, tasks: Tasks) -> None:
    """Check that all labels of a task have different tokens.

    Raises:
        InputError: if a label has no tokens, or two labels of a task have the same.
    """
    for task in tasks.values():
        label_of: dict[tuple[int, ...], str] = {}
        for label, text in task.labels.items():
            ids = tuple(tokenizer.encode(text))
            if not ids:
                raise InputError(
                    f"task '{task.name}': label '{label}' ({text!r}) has no tokens in {tokenizer.name}; change its text"
                )
            if ids in label_of:
                raise InputError(
                    f"task '{task.name}': labels '{label_of[ids]}' and '{label}' have the same tokens {list(ids)} in "
                    f"{tokenizer.name}; change the text of one of them"
                )
            label_of[ids] = label


def check_round_trip(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """Check that decoding restores every encoded text.

    Raises:
        InputError: if decoding changes a text.
    """
    for text in texts:
        decoded = tokenizer.decode(tokenizer.encode(text))
        if decoded != text:
            raise InputError(
                f"the tokenizer {tokenizer.name} changes {text!r} to {decoded!r}; remove unusual characters, or words "
                "that have a meaning for it, from the text"
            )


def summarize(tokenizer: Tokenizer, texts: Sequence[str], out_dir: Path) -> str:
    """Return the vocabulary size, the mean number of tokens of ``texts``, and the percentage of unknown tokens."""
    ids = [tokenizer.encode(text) for text in texts]
    tokens = sum(map(len, ids))
    unknown = sum(sentence.count(tokenizer.unk_id) for sentence in ids) if tokenizer.unk_id is not None else 0
    return (
        f"{out_dir}: {tokenizer.vocab_size} tokens; {tokens / len(ids):.1f} per target ({len(ids)} targets), "
        f"{100 * unknown / max(tokens, 1):.2f} % unknown"
    )
