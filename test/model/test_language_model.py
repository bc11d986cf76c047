"""Language model: random or pre-trained, fully trained or with LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LLAMA, LORA, QWEN2, save_llm
from transformers import AutoModelForCausalLM

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.language_model import LanguageModel

FAMILIES = pytest.mark.parametrize("config", [QWEN2, LLAMA], ids=["qwen2", "llama"])
TOKENS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
POSITIONS = torch.arange(4)[None].expand(2, -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_llm(tmp_path_factory.mktemp("llm"))


def logits(decoder: LanguageModel) -> torch.Tensor:
    states, _ = decoder(decoder.embed(TOKENS), MASK, POSITIONS)
    return decoder.head(states[-1])


@FAMILIES
def test_states_and_logits_are_those_of_hugging_face(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decoder = LanguageModel(20, config=config).eval()
    states, cache = decoder(decoder.embed(TOKENS), MASK, POSITIONS)
    assert (len(states), decoder.num_layers, decoder.hidden_size) == (3, 3, 32) and cache is None
    expected = decoder.llm(TOKENS, attention_mask=MASK.long())
    assert expected.logits.shape == (2, 4, 20)
    torch.testing.assert_close(logits(decoder)[MASK], expected.logits[MASK])


@FAMILIES
def test_the_last_state_has_passed_the_final_norm(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decoder = LanguageModel(20, config=config).eval()
    before = []
    decoder.final_norm.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
    states, _ = decoder(decoder.embed(TOKENS), MASK, POSITIONS)
    torch.testing.assert_close(states[-1], decoder.final_norm(before[0]))
    assert len(before) >= 1 and (states[-1] - before[0]).abs().max() > 0.1


@FAMILIES
def test_continuing_from_a_cache_gives_the_states_of_the_whole_sequence(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decoder = LanguageModel(20, config=config).eval()
    embeds, mask = decoder.embed(TOKENS[:1]), MASK[:1]
    states, _ = decoder(embeds, mask, POSITIONS[:1])
    _, cache = decoder(embeds[:, :3], mask[:, :3], POSITIONS[:1, :3], use_cache=True)
    rest, _ = decoder(embeds[:, 3:], mask, POSITIONS[:1, 3:], cache, use_cache=True)
    torch.testing.assert_close(rest[-1], states[-1][:, 3:], atol=1e-5, rtol=0)


def test_the_weights_of_a_folder_are_loaded(folder: str) -> None:
    decoder = LanguageModel(257, model=folder).eval()
    original = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(logits(decoder)[MASK], original(TOKENS, attention_mask=MASK.long()).logits[MASK])
    assert decoder.restorable and not LanguageModel(20, config=QWEN2).restorable
    assert all(parameter.requires_grad for parameter in decoder.parameters())


def test_lora_does_not_change_the_initial_output_and_is_all_that_is_trained(folder: str) -> None:
    torch.manual_seed(0)
    original, decoder = (
        LanguageModel(257, model=folder).eval(),
        LanguageModel(257, model=folder, lora=LORA).eval(),
    )
    torch.testing.assert_close(logits(decoder), logits(original))
    logits(decoder).square().sum().backward()
    trained = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in decoder.named_parameters() if "lora_" in name}
    assert len(trained) == 3 * 2 * 2  # layers, projections, A and B
    with_gradient = {name for name, parameter in decoder.named_parameters() if parameter.grad is not None}
    assert with_gradient == trained
    assert all(p.grad.abs().sum() > 0 for name, p in decoder.named_parameters() if "lora_B" in name)


def test_lora_whose_target_modules_do_not_exist_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="no_such_projection"):
        LanguageModel(257, model=folder, lora={**LORA, "target_modules": ["no_such_projection"]})


def test_lora_with_an_unknown_argument_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="decoder_conf: lora .'rank': 2. does not fit the model: .*'rank'; correct it"):
        LanguageModel(257, model=folder, lora={"rank": 2})


def test_freeze_freezes_all_parameters(folder: str) -> None:
    decoder = LanguageModel(257, model=folder, freeze=True)
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


def test_a_tokenizer_larger_than_the_embeddings_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="the tokenizer has 301 tokens, the language model .* has embeddings for 300;"):
        LanguageModel(301, model=folder)
    assert LanguageModel(300, model=folder).llm.config.vocab_size == 300


def test_a_random_model_has_the_vocabulary_size_of_the_tokenizer() -> None:
    assert LanguageModel(20, config={**QWEN2, "vocab_size": 7}).llm.get_input_embeddings().num_embeddings == 20


@pytest.mark.parametrize("conf", [{}, {"model": "a", "config": QWEN2}])
def test_both_or_neither_of_model_and_config_are_refused(conf: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="decoder_conf needs either 'model' or 'config', got model="):
        LanguageModel(20, **conf)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        LanguageModel(20, model=str(tmp_path / "nothing"))


def held_in_bfloat16(decoder: LanguageModel) -> LanguageModel:
    """Hold the frozen parameters in bfloat16, as on a GPU."""
    for weight in decoder.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.bfloat16()
    return decoder


def with_lora(folder: str, **options: Any) -> LanguageModel:
    """Build a model in train mode, with LoRA adapters that change the output."""
    torch.manual_seed(0)
    decoder = LanguageModel(257, model=folder, lora=LORA, **options).train()
    for name, weight in decoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return decoder


def gradients(decoder: LanguageModel) -> dict[str, torch.Tensor]:
    loss = logits(decoder)[MASK].float().square().mean()
    loss.backward()
    return {name: weight.grad for name, weight in decoder.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
def test_float32_adapters_of_a_frozen_bfloat16_model_have_nearly_exact_gradients(folder: str, amp: bool) -> None:
    exact, decoder = gradients(with_lora(folder)), held_in_bfloat16(with_lora(folder))
    assert decoder.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        assert decoder.embed(TOKENS).dtype == torch.float32
        states, _ = decoder(decoder.embed(TOKENS), MASK, POSITIONS)
        assert states[0].dtype == torch.bfloat16
        found = gradients(decoder)
    assert found.keys() == exact.keys() and all("lora_" in name for name in found)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert torch.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0) > 0.98


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_gradient_checkpointing_keeps_the_gradients_and_saves_memory(folder: str, half: bool) -> None:
    results = []
    for checkpointing in (False, True):
        decoder = with_lora(folder, gradient_checkpointing=checkpointing)
        decoder = held_in_bfloat16(decoder) if half else decoder
        saved: list[int] = []

        def count(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            results.append((gradients(decoder), sum(saved)))
    (plain, plain_bytes), (checkpointed, checkpointed_bytes) = results
    assert plain.keys() == checkpointed.keys() and checkpointed_bytes < plain_bytes / 2
    for name, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[name])


def test_gradient_checkpointing_reaches_all_parameters_of_a_fully_trained_model() -> None:
    torch.manual_seed(0)
    decoder = LanguageModel(20, config=QWEN2, gradient_checkpointing=True).train()
    assert gradients(decoder).keys() == {name for name, _ in decoder.named_parameters()}


def test_attention_uses_sdpa(folder: str) -> None:
    assert LanguageModel(257, model=folder).llm.config._attn_implementation == "sdpa"
