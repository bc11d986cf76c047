"""Chat templates: the literal tokens around prompt, speech and answer, in training, in decoding and in a config."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import yaml
from tiny import CHAT, LORA, Recipe, noise, save_llm, write_tokenizer

from harmonifuse_espnet.data.preprocessor import collate
from harmonifuse_espnet.data.tokenizer import HuggingFaceTokenizer, load_tokenizer
from harmonifuse_espnet.inference.speech2text import Speech2Text
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.task import HarmoniFuseTask, language_tokenizer

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


def test_the_date_is_not_today_s(llm: str) -> None:
    inner = load_tokenizer(llm).inner  # type: ignore[attr-defined]
    today = inner.apply_chat_template([{"role": "user", "content": "X"}], tokenize=False)
    assert str(datetime.date.today().year) in today  # the library would write it
    assert (
        load_tokenizer(llm, True)
        .decode(load_tokenizer(llm, True).preamble_ids)
        .startswith("system\nBE BRIEF 26 Jul 2024")
    )


def test_one_conversation_token_by_token(recipe: Recipe) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}, "connector_conf": {"stack": 2}}
    args = HarmoniFuseTask.get_parser().parse_args(recipe.train_command("exp", config, chat_template="true"))
    model, tokenizer = HarmoniFuseTask.build_model(args).eval(), language_tokenizer(args)
    assert isinstance(model, HarmoniFuseModel) and isinstance(tokenizer, HuggingFaceTokenizer)
    preprocess = HarmoniFuseTask.build_preprocess_fn(args, train=True)
    data = {"speech": noise(8000), "text": "ONE TWO", "task": "asr"}
    batch = collate([("u", preprocess("u", data))])[1]  # type: ignore[arg-type,list-item]
    whole = literal(tokenizer, "<|turn|>system\nBE BRIEF 26 Jul 2024<|end|><|turn|>user\nWRITE")
    answer = literal(tokenizer, "ONE TWO<|end|>")
    with torch.no_grad():
        names = ("speech", "speech_lengths", "prompt", "prompt_lengths")
        heard = model.encode(*(batch[name] for name in names), batch["task"].view(-1))
        spliced = model.splice_target(heard, batch["text"], batch["text_lengths"])
        tail = [*literal(tokenizer, "<|end|><|turn|>assistant\n"), *answer]
        assert torch.equal(spliced.embeds[0, : len(whole)], model.decoder.embed(torch.tensor(whole)))
        assert torch.equal(spliced.embeds[0, -len(tail) :], model.decoder.embed(torch.tensor(tail)))
        assert spliced.embeds.size(1) == len(whole) + int(heard.frame_lengths) + len(tail)
        assert torch.equal(spliced.embeds[0, : -len(answer)], model.splice_prefix(heard).embeds[0])
        query = model.decoder.embed(torch.tensor(tokenizer.encode("WRITE"))).mean(0)
    assert spliced.labels[0, -len(answer) :].tolist() == answer and int(spliced.labels.ne(-100).sum()) == len(answer)
    torch.testing.assert_close(heard.query[0], query)  # the wording's summary, not the template's


def test_a_config_carries_the_template_to_decoding(recipe: Recipe, tmp_path: Path) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer, "lora": LORA}}
    experiment = recipe.train("chat", config, chat_template="true")
    assert yaml.safe_load((experiment / "config.yaml").read_text())["chat_template"] is True
    model = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    assert model.tokenizer.eos_id == END and model.model.opening_ids[0] == END
    assert len(model.model.preamble_ids) > 10 and model(noise(8000), "ser").text in ("ang", "sad")
    old = yaml.safe_load((experiment / "config.yaml").read_text())
    del old["chat_template"]  # as written before there was the option
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    assert Speech2Text(tmp_path / "old.yaml", experiment / "valid.loss.ave.pth").tokenizer.eos_id == 0


def test_speech_first_and_a_template_exclude_each_other(recipe: Recipe) -> None:
    config = {"decoder_conf": {"model": recipe.tokenizer}, "model_conf": {"speech_first": True}}
    args = HarmoniFuseTask.get_parser().parse_args(recipe.train_command("exp", config, chat_template="true"))
    with pytest.raises(ValueError, match="--chat_template true puts the prompt before the speech, model_conf has"):
        HarmoniFuseTask.build_model(args)


def test_a_tokenizer_without_a_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the tokenizer has no chat template; leave out --chat_template, or take"):
        load_tokenizer(save_llm(tmp_path / "llm"), chat_template=True)
    with pytest.raises(ValueError, match="a sentencepiece model has no chat template; leave out --chat_template"):
        load_tokenizer(write_tokenizer(tmp_path / "tokens", TABLE), chat_template=True)


def test_a_template_that_changes_what_is_said_is_refused(tmp_path: Path) -> None:
    folder = save_llm(tmp_path, chat_template="{{ messages[0]['content'] | upper }}")
    with pytest.raises(ValueError, match="the chat template turns '<<<what the user says>>>' into '<<<WHAT THE USER"):
        load_tokenizer(folder, chat_template=True)


def test_an_answer_that_nothing_special_ends_ends_with_eos(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant: "
    assert load_tokenizer(save_llm(tmp_path, chat_template=template), chat_template=True).eos_id == 0
