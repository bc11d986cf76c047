"""Tokenizers: decoding restores the text, labels are one token, and both kinds behave alike."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import save_llm

from harmonifuse_espnet.common.errors import UserError
from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.data.tokenizer import HuggingFaceTokenizer, SentencePieceTokenizer, load_tokenizer
from harmonifuse_espnet.data.tokenizer_training import check_labels, check_round_trip, train_sentencepiece

TEXTS = ["TRANSCRIBE THE SPEECH", "ONE TWO THREE", "I'M NOT ANGRY", "HE WAS VERY SAD", "AN ANGRY MAN", "HANGRY BOYS"]
LABELS = ["ANGRY", "HAPPY", "VERY SAD", "SAD"]


def save_sentencepiece(folder: Path, model_type: str = "unigram", vocab_size: int = 60) -> Path:
    folder.mkdir()
    (folder / "bpe.model").write_bytes(train_sentencepiece(TEXTS, LABELS, vocab_size, model_type))
    return folder


def save_hugging_face(folder: Path, **special: str) -> Path:
    """A byte-level BPE tokenizer without merges."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special.values(), *alphabet])}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    return folder


def save_with_eos(folder: Path) -> Path:
    return save_hugging_face(folder, eos_token="<|end|>")


@pytest.mark.parametrize("make", [save_sentencepiece, save_with_eos])
def test_both_kinds_load_and_round_trip(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    tokenizer = load_tokenizer(make(tmp_path / "my tokenizer"))
    check_round_trip(tokenizer, [*TEXTS, *LABELS, "", "A  B", " A"])
    ids = tokenizer.encode("ONE TWO")
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.bos_id not in ids and tokenizer.eos_id not in ids
    assert tokenizer.decode([*ids, tokenizer.eos_id, tokenizer.pad_id]) == "ONE TWO"
    assert pickle.loads(pickle.dumps(tokenizer)).encode("ONE TWO") == ids  # data loader workers get a copy


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_a_label_is_one_token_with_a_fixed_id(tmp_path: Path, model_type: str) -> None:
    tokenizer = load_tokenizer(save_sentencepiece(tmp_path / "t", model_type))
    assert [tokenizer.encode(label) for label in LABELS] == [[4], [5], [6], [7]]
    assert [tokenizer.decode([i]) for i in (4, 5, 6, 7)] == LABELS
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 3)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_a_label_in_a_transcript_keeps_its_spaces_and_does_not_match_in_longer_words(
    tmp_path: Path, model_type: str
) -> None:
    tokenizer = load_tokenizer(save_sentencepiece(tmp_path / "t", model_type))
    check_round_trip(tokenizer, ["AN ANGRY MAN WAS VERY SAD", "HANGRY", "ANGRY ANGRY", "SADNESS", "VERY SADNESS"])
    assert 4 in tokenizer.encode("AN ANGRY MAN") and 4 not in tokenizer.encode("HANGRY")


def test_training_is_reproducible() -> None:
    assert train_sentencepiece(TEXTS, LABELS, 60, "unigram") == train_sentencepiece(TEXTS, LABELS, 60, "unigram")


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_a_small_corpus_gives_a_small_vocabulary(tmp_path: Path, model_type: str) -> None:
    tokenizer = load_tokenizer(save_sentencepiece(tmp_path / "t", model_type, 5000))
    assert 20 < tokenizer.vocab_size < 200


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_smallest_vocabulary_in_the_error_works(model_type: str) -> None:
    with pytest.raises(
        ValueError, match=r"--vocab_size 5 is too small: \d+ characters, a space, 4 labels .* need (\d+)"
    ) as e:
        train_sentencepiece(TEXTS, LABELS, 5, model_type)
    needed = int(str(e.value).split("need ")[1].split(";")[0])
    assert train_sentencepiece(TEXTS, LABELS, needed, model_type)


def test_text_is_not_normalised(tmp_path: Path) -> None:
    texts = ["\u017bÓ\u0141W ﬁn ½ \u00e9 e\u0301", "a,b"]
    (tmp_path / "bpe.model").write_bytes(train_sentencepiece(texts, ["a,b"], 60, "unigram"))
    check_round_trip(load_tokenizer(tmp_path), texts)


def test_long_texts_are_used_in_training(tmp_path: Path) -> None:
    (tmp_path / "bpe.model").write_bytes(train_sentencepiece(["A B", "C D " * 3000], [], 60, "unigram"))
    assert 0 not in load_tokenizer(tmp_path).encode("C D")


def test_a_reserved_character_is_named() -> None:
    with pytest.raises(ValueError, match="'A\u2581B' has the character '\u2581': it represents a space"):
        train_sentencepiece(["A\u2581B"], [], 60, "unigram")


def test_a_text_changed_by_the_tokenizer_is_named(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_sentencepiece(tmp_path / "t"))
    with pytest.raises(
        ValueError,
        match=r"the tokenizer .*/t changes '5 MEN' to '.* MEN'; remove unusual characters, or words that have a",
    ):
        check_round_trip(tokenizer, ["5 MEN"])


def test_labels_with_the_same_tokens_are_named(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_sentencepiece(tmp_path / "t"))
    table = {"count": {"answer": "label", "labels": {"x": "5", "y": "6"}, "prompts": ["HOW MANY"]}}
    with pytest.raises(
        ValueError,
        match=r"task 'count': labels 'x' and 'y' have the same tokens \[.*\] in .*; change the text of one of them",
    ):
        check_labels(tokenizer, build_tasks(table))
    empty = {"count": {"answer": "label", "labels": {"x": "", "y": "ONE"}, "prompts": ["HOW MANY"]}}
    with pytest.raises(ValueError, match=r"task 'count': label 'x' \(''\) has no tokens in .*; change its text"):
        check_labels(tokenizer, build_tasks(empty))


def test_a_model_file_loads_like_its_folder(tmp_path: Path) -> None:
    folder = save_sentencepiece(tmp_path / "t")
    by_file, by_folder = load_tokenizer(folder / "bpe.model"), load_tokenizer(folder)
    assert by_file.encode("ONE") == by_folder.encode("ONE") and by_file.name == str(folder / "bpe.model")
    assert isinstance(by_file, SentencePieceTokenizer) and len(by_file) == by_file.vocab_size


def test_eos_replaces_missing_bos_and_pad(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_with_eos(tmp_path / "t"))
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.bos_id == tokenizer.pad_id == tokenizer.eos_id == 0 and tokenizer.vocab_size == 257
    complete = load_tokenizer(save_hugging_face(tmp_path / "c", bos_token="<s>", eos_token="</s>", pad_token="<pad>"))
    assert (complete.bos_id, complete.eos_id, complete.pad_id) == (0, 1, 2)


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path) -> None:
    folder = save_hugging_face(tmp_path / "t", bos_token="<s>")
    with pytest.raises(ValueError, match="has no eos token, which ends every target"):
        load_tokenizer(folder)


def test_the_error_for_a_missing_tokenizer_names_the_stage(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path / "gone.model", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"{path}.*train_tokenizer \(stage 4\) creates it"):
            load_tokenizer(path)
    with pytest.raises(FileNotFoundError, match="no tokenizer in this folder"):
        load_tokenizer("data/token_list/unigram_100")


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bpe.model").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"bpe\.model: not a sentencepiece model"):
        load_tokenizer(tmp_path)


def test_the_error_for_a_name_that_is_not_on_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refuse(name: str, trust_remote_code: bool) -> None:
        raise OSError(f"{name} is not a local folder\nand more\nlines")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(
        OSError, match=r"nobody/nothing: neither a folder with a tokenizer nor a name on the Hugging Face Hub"
    ) as e:
        load_tokenizer("nobody/nothing")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("tokenizer_class", [None, "AutoModel", "AutoTokenizer", "AutoProcessor", "Qwen2Config"])
def test_remote_code_of_a_tokenizer_is_not_run_and_the_user_is_not_prompted(
    tokenizer_class: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a ``tokenizer_class`` of another kind, ``transformers`` forgets ``trust_remote_code=False``."""

    def answer(question: str = "") -> str:
        (tmp_path / "PROMPTED").touch()
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    folder = Path(save_llm(tmp_path / "llm"))
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'RAN')!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model\n"
        "class Config(Qwen2Config): model_type = 'evil'\n"
        "class Model(Qwen2Model): config_class = Config\n"
        "class Tokenizer(PreTrainedTokenizerFast): pass\n"
    )
    classes = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    changes = {"config.json": {"model_type": "evil", "auto_map": classes}, "tokenizer_config.json": {}}
    if tokenizer_class is None:
        mapping = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
        changes["tokenizer_config.json"] = {"tokenizer_class": "Evil", "auto_map": mapping}
    else:
        changes["tokenizer_config.json"] = {"tokenizer_class": tokenizer_class}
    for name, fields in changes.items():
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **fields}))
    needs_code = (
        f"{folder}: this tokenizer needs code of its author, which is not run; use a tokenizer whose class is part of "
        "Hugging Face transformers"
    )
    messages = {
        "AutoProcessor": f"{folder}: neither a folder with a tokenizer nor a name on the Hugging Face Hub (",
        "Qwen2Config": f"{folder}: tokenizer_config.json names Qwen2Config as tokenizer_class, which is no tokenizer; "
        "correct it, or use another tokenizer",
    }
    with pytest.raises(UserError) as error:
        load_tokenizer(folder)
    assert str(error.value).startswith(messages.get(tokenizer_class or "", needs_code))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "RAN").exists() and not (tmp_path / "PROMPTED").exists()
