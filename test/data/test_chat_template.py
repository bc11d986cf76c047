"""Chat templates: the literal tokens around prompt, speech and target, in training, in decoding and in a config."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import yaml
from tiny import CHAT, LORA, Recipe, noise, save_llm, targets_of, write_tokenizer

from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.data.tokenizer import HuggingFaceTokenizer, load_tokenizer
from harmonifuse_espnet.inference.speech2text import Speech2Text
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.build import build_tokenizer
from harmonifuse_espnet.train.task import HarmoniFuseTask

TURN, END = 257, 258
TABLE = {
    "asr": {"answer": "text", "prompts": ["WRITE"]},
    "ser": {"answer": "label", "labels": {"ang": "ANGRY", "sad": "SAD"}, "prompts": ["FEEL"]},
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_llm(tmp_path_factory.mktemp("llm"), chat_template=CHAT)


@pytest.fixture(scope="module")
def recipe(llm: str, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"), TABLE, llm)


def literal(tokenizer: HuggingFaceTokenizer, text: str) -> list[int]:
    return tokenizer.inner.encode(text, add_special_tokens=False)


def test_the_template_is_split_at_the_messages(llm: str) -> None:
    plain, chat = load_tokenizer(llm), load_tokenizer(llm, chat_template=True)
    assert isinstance(chat, HuggingFaceTokenizer)
    assert list(chat.preamble_ids) == literal(chat, "<|turn|>system\nBE BRIEF 26 Jul 2024<|end|><|turn|>user\n")
    assert list(chat.opening_ids) == literal(chat, "<|end|><|turn|>assistant\n")
    assert (chat.preamble_ids[0], chat.opening_ids[:2], chat.eos_id) == (TURN, [END, TURN], END)
    assert (list(plain.preamble_ids), list(plain.opening_ids), plain.eos_id) == ([], [0], 0)
    assert chat.encode("WRITE") == plain.encode("WRITE") and chat.vocab_size == plain.vocab_size


def test_the_date_in_the_template_is_fixed(llm: str) -> None:
    inner = load_tokenizer(llm).inner  # type: ignore[attr-defined]
    today = inner.apply_chat_template([{"role": "user", "content": "X"}], tokenize=False)
    assert str(datetime.date.today().year) in today  # as transformers writes it
    assert (
        load_tokenizer(llm, True)
        .decode(load_tokenizer(llm, True).preamble_ids)
        .startswith("system\nBE BRIEF 26 Jul 2024")
    )


def test_the_tokens_of_a_conversation_literally(recipe: Recipe) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}, "connector_conf": {"stack": 2}}
    args = HarmoniFuseTask.get_parser().parse_args(recipe.train_command("exp", config, chat_template="true"))
    model, tokenizer = HarmoniFuseTask.build_model(args).eval(), build_tokenizer(args)
    assert isinstance(model, HarmoniFuseModel) and isinstance(tokenizer, HuggingFaceTokenizer)
    preprocess = HarmoniFuseTask.build_preprocess_fn(args, train=True)
    data = {"speech": noise(8000), "text": "ONE TWO", "task": "asr"}
    batch = collate([("u", preprocess("u", data))])[1]["batch"]  # type: ignore[arg-type]
    whole = literal(tokenizer, "<|turn|>system\nBE BRIEF 26 Jul 2024<|end|><|turn|>user\nWRITE")
    answer = literal(tokenizer, "ONE TWO<|end|>")
    with torch.no_grad():
        encoded, targets = model.encode(batch), targets_of(batch)
        spliced = model.splice_target(encoded, targets.tokens, targets.lengths)
        tail = [*literal(tokenizer, "<|end|><|turn|>assistant\n"), *answer]
        assert torch.equal(spliced.embeds[0, : len(whole)], model.decoder.embed(torch.tensor(whole)))
        assert torch.equal(spliced.embeds[0, -len(tail) :], model.decoder.embed(torch.tensor(tail)))
        assert spliced.embeds.size(1) == len(whole) + int(encoded.frame_lengths) + len(tail)
        assert torch.equal(spliced.embeds[0, : -len(answer)], model.splice_prefix(encoded).embeds[0])
        summary = model.decoder.embed(torch.tensor(tokenizer.encode("WRITE"))).mean(0)
    assert spliced.labels[0, -len(answer) :].tolist() == answer and int(spliced.labels.ne(-100).sum()) == len(answer)
    torch.testing.assert_close(encoded.prompt_summary[0], summary)  # the wording's, not the template's


def test_decoding_uses_the_template_of_the_config(recipe: Recipe, tmp_path: Path) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}}
    experiment = recipe.train("chat", config, chat_template="true")
    assert yaml.safe_load((experiment / "config.yaml").read_text())["chat_template"] is True
    model = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    assert model.tokenizer.eos_id == END and model.model.opening_ids[0] == END
    assert len(model.model.preamble_ids) > 10 and model(noise(8000), "ser").text in ("ang", "sad")
    old = yaml.safe_load((experiment / "config.yaml").read_text())
    del old["chat_template"]  # as in configs from before the option
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    assert Speech2Text(tmp_path / "old.yaml", experiment / "valid.loss.ave.pth").tokenizer.eos_id == 0


def test_speech_first_and_a_chat_template_exclude_each_other(recipe: Recipe) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer}, "model_conf": {"speech_first": True}}
    args = HarmoniFuseTask.get_parser().parse_args(recipe.train_command("exp", config, chat_template="true"))
    with pytest.raises(ValueError, match="--chat_template true puts the prompt before the speech, but model_conf"):
        HarmoniFuseTask.build_model(args)


def test_a_tokenizer_without_a_chat_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the tokenizer has no chat template; leave out --chat_template, or use"):
        load_tokenizer(save_llm(tmp_path / "llm"), chat_template=True)
    with pytest.raises(ValueError, match="a sentencepiece model has no chat template; leave out --chat_template"):
        load_tokenizer(write_tokenizer(tmp_path / "tokens", TABLE), chat_template=True)


def test_a_template_that_changes_messages_is_refused(tmp_path: Path) -> None:
    folder = save_llm(tmp_path, chat_template="{{ messages[0]['content'] | upper }}")
    with pytest.raises(
        ValueError, match="the chat template changes the message '<<<user message>>>': '<<<USER MESSAGE>>>"
    ):
        load_tokenizer(folder, chat_template=True)


def test_without_a_special_token_after_the_assistant_targets_end_with_eos(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant: "
    assert load_tokenizer(save_llm(tmp_path, chat_template=template), chat_template=True).eos_id == 0
