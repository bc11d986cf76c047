"""Stage 4: the files of the tokenizer, and errors."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
import yaml
from tiny import save_llm

from harmonifuse_espnet.bin.train_tokenizer import main
from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.tokenizer import load_tokenizer

TASKS = {
    "asr": {"answer": "text", "prompts": ["TRANSCRIBE THE SPEECH"]},
    "ser": {"answer": "label", "labels": {"ang": "ANGRY", "sad": "SAD"}, "prompts": ["NAME THE EMOTION"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training set with both tasks, and a table of tasks."""
    rows = [
        Utterance(f"a{k}", "x.wav", f"THE {word} FOX", "s", "asr") for k, word in enumerate(["QUICK", "BROWN", "ANGRY"])
    ]
    write_datadir(tmp_path / "data", [*rows, Utterance("b0", "x.wav", "ang", "s", "ser")])
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump(TASKS, sort_keys=False))
    return tmp_path


def train(folder: Path, *options: str) -> None:
    main(
        [
            "--data_dir",
            str(folder / "data"),
            "--tasks",
            str(folder / "tasks.yaml"),
            "--out_dir",
            str(folder / "t"),
            *options,
        ]
    )


def failure(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    with pytest.raises(SystemExit, match="1"):
        train(folder, *options)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_the_tokenizer_encodes_transcripts_prompts_and_labels(
    folder: Path, model_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, "--vocab_size", "60", "--model_type", model_type)
    tokenizer = load_tokenizer(folder / "t")
    for text in ("THE QUICK FOX", "NAME THE EMOTION", "TRANSCRIBE THE SPEECH"):
        assert tokenizer.decode(tokenizer.encode(text)) == text and tokenizer.unk_id not in tokenizer.encode(text)
    assert tokenizer.encode("ANGRY") == [4] and tokenizer.encode("SAD") == [5]
    report = capsys.readouterr().out
    assert f"{tokenizer.vocab_size} tokens" in report and "(4 targets), 0.00 % unknown" in report


def test_the_tokenizer_of_the_ctc_head_is_trained_on_transcripts_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, "--model_type", "char", "--ctc", "true")
    tokens = (folder / "t/tokens.txt").read_text(encoding="utf-8").split()
    assert sorted(tokens[4:]) == sorted({*"▁THEQUICKFOXBROWNANGRY"})
    assert "(3 targets), 0.00 % unknown" in capsys.readouterr().out
    (folder / "data/text").write_text("b0 ang\n")
    (folder / "data/utt2task").write_text("b0 ser\n")
    for options in ([], ["--llm", "any"]):
        message = failure(capsys, folder, "--ctc", "true", *options)
        assert "data: no transcripts for --ctc true; leave out --ctc_tokenizer_type" in message


def test_the_tokenizer_of_the_model_in_a_training_configuration_is_saved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({"decoder_conf": {"model": save_llm(folder / "llm")}}))
    train(folder, "--llm_of", str(config))
    capsys.readouterr()
    assert (folder / "t/tokenizer_config.json").is_file()
    config.write_text("decoder_conf: {config: {model_type: qwen2}}")
    assert "train.yaml: decoder_conf has no 'model'; give --llm" in failure(capsys, folder, "--llm_of", str(config))


def test_tokens_are_listed_in_the_order_of_ids(folder: Path) -> None:
    train(folder, "--vocab_size", "60")
    tokens = (folder / "t/tokens.txt").read_text(encoding="utf-8").splitlines()
    assert tokens[:6] == ["<unk>", "<s>", "</s>", "<pad>", "\u2581ANGRY", "\u2581SAD"]
    assert len(tokens) == load_tokenizer(folder / "t").vocab_size == len(set(tokens))
    assert sorted(path.name for path in (folder / "t").iterdir()) == ["bpe.model", "tokens.txt"]


def test_held_out_prompts_may_have_characters_that_are_in_no_transcript(folder: Path) -> None:
    tasks = {**TASKS, "ser": {**TASKS["ser"], "held_out_prompts": ["JUDGE"]}}
    (folder / "tasks.yaml").write_text(yaml.safe_dump(tasks, sort_keys=False))
    for model_type in ("unigram", "bpe", "char"):
        train(folder, "--vocab_size", "60", "--model_type", model_type, "--fresh", "true")
        tokenizer = load_tokenizer(folder / "t")
        assert tokenizer.decode(tokenizer.encode("JUDGE")) == "JUDGE"


def test_a_label_task_needs_no_transcripts(folder: Path) -> None:
    write_datadir(folder / "data", [Utterance("b0", "x.wav", "ang", "s", "ser")])
    train(folder, "--vocab_size", "60")
    assert load_tokenizer(folder / "t").decode([4]) == "ANGRY"


def test_the_tokenizer_of_a_language_model_is_saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer

    llm = save_word_tokenizer(folder / "llm", WORDS)
    train(folder, "--vocab_size", "60")
    before = (folder / "t/bpe.model").read_bytes()
    assert re.sub("[0-9a-f]{16}", "<c>", failure(capsys, folder, "--llm", str(llm))) == (
        f"error: {folder}/t/bpe.model is of a tokenizer of other texts or options (checksum <c>, the new one <c>), "
        "which models may have been trained with; replace it with --fresh true and train these models again, or choose "
        "another folder (run.sh: --datadir)"
    )
    assert (folder / "t/bpe.model").read_bytes() == before
    train(folder, "--llm", str(llm), "--fresh", "true")
    assert not (folder / "t/bpe.model").exists()
    saved, original = load_tokenizer(folder / "t"), AutoTokenizer.from_pretrained(llm)
    assert saved.encode("THE ANGRY FOX") == original.encode("THE ANGRY FOX", add_special_tokens=False)
    assert saved.vocab_size == len(original) and "0.00 % unknown" in capsys.readouterr().out
    train(folder, "--vocab_size", "60", "--fresh", "true")
    assert load_tokenizer(folder / "t").encode("ANGRY") == [4]


def test_a_language_model_that_cannot_write_a_label_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = save_word_tokenizer(folder / "llm", WORDS.replace("ANGRY SAD", "ANGRY ANGRY"))
    message = failure(capsys, folder, "--llm", str(llm))
    assert message == (
        f"error: label 'sad' of task 'ser', 'SAD', is changed by the tokenizer {llm}: it cannot write 'SAD'; use other "
        "words, or the case and characters of its training text"
    )
    assert not (folder / "t").exists()


def test_a_transcript_that_the_language_model_reads_as_something_else_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = save_word_tokenizer(folder / "llm", WORDS)
    write_datadir(folder / "data", [Utterance("a0", "x.wav", "THE </s> FOX", "s", "asr")])
    assert failure(capsys, folder, "--llm", str(llm)) == (
        f"error: the tokenizer {llm} changes 'THE </s> FOX' to 'THE FOX'; remove unusual characters, or words that "
        "have a meaning for it, from the text"
    )


WORDS = "ANGRY SAD THE FOX QUICK BROWN " + " ".join(
    word for task in TASKS.values() for prompt in task["prompts"] for word in prompt.split()
)


def save_word_tokenizer(folder: Path, words: str) -> Path:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<unk>", "</s>", *words.split()])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    return folder


def test_the_error_for_a_small_vocabulary_has_both_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, folder, "--vocab_size", "10")
    assert (
        "--vocab_size 10 is too small:" in message
        and "7 labels and words of prompts, and 4 special tokens need" in message
    )


def test_an_unknown_label_names_utterance_and_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_datadir(folder / "data", [Utterance("b7", "x.wav", "bored", "s", "ser")])
    message = failure(capsys, folder)
    assert "utterance 'b7': unknown label 'bored' for task 'ser', which has ang, sad" in message


def test_a_full_disk_keeps_the_earlier_tokenizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, "--vocab_size", "60")
    before = (folder / "t/bpe.model").read_bytes()
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.parent == folder / "t":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    message = failure(capsys, folder, "--vocab_size", "45")
    assert f"{folder / 't'}: cannot write to this folder (No space left on device); free space" in message
    assert (folder / "t/bpe.model").read_bytes() == before and len(list((folder / "t").iterdir())) == 2
