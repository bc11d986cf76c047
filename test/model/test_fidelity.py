"""Fidelity to the method: formulas and their limits, trained parameters, and the initial output of a pre-trained model.

The formulas of the docstrings are recomputed by NumPy, element by element, in float64.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import (
    EOS,
    LLAMA,
    LORA,
    QWEN2,
    batch,
    build_model,
    encode,
    row_of,
    rows_of,
    save_encoder,
    save_llm,
    targets_of,
)
from torch import Tensor, nn
from transformers import LogitsProcessorList

from harmonifuse_espnet.inference.generation import MaxLengths, generate_text
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.fusion import LAST_BIAS, LayerFusion
from harmonifuse_espnet.model.gate import PromptGate
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.layer_weights import PerTaskWeights, PromptWeights, SharedWeights, weighted_sum

Array = NDArray[np.float64]
FAMILIES = pytest.mark.parametrize("config", [QWEN2, LLAMA], ids=["qwen2", "llama"])


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def randomized(module: nn.Module, seed: int = 0) -> Any:
    """Draw every parameter at random, also those that start at zero, and return the module in float64."""
    torch.manual_seed(seed)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.5)
    return module.double()


# The weighted sum of the encoder's layers: H = sum_i softmax(w)_i H_i


@pytest.mark.parametrize("layers", [1, 2, 24])
def test_the_weighted_sum_is_the_published_formula(layers: int) -> None:
    weights = randomized(SharedWeights(layers, 2, 8))
    states, chosen = torch.randn(layers, 3, 5, 4).double(), torch.tensor([0, 1, 1])
    found = weighted_sum(list(states), weights(torch.zeros(3, 8).double(), chosen))
    alpha, expected = softmax(array(weights.weight)), np.zeros((3, 5, 4))
    for layer in range(layers):
        expected += alpha[layer] * states[layer].numpy()
    np.testing.assert_allclose(array(found), expected, atol=1e-12)


def test_each_task_has_its_own_layer_weights() -> None:
    weights = randomized(PerTaskWeights(6, 2, 8))
    found = weights(torch.zeros(3, 8).double(), torch.tensor([1, 0, 1]))
    np.testing.assert_allclose(array(found), softmax(array(weights.weight))[[1, 0, 1]], atol=1e-12)


def test_prompt_weights_are_softmax_of_mlp_and_bias_over_tau() -> None:
    weights, prompt_summary = randomized(PromptWeights(5, 2, 8, temperature=0.5)), torch.randn(3, 8).double()
    norm, first, _, last = weights.mlp
    normed = layer_norm(prompt_summary.numpy(), array(norm.weight), array(norm.bias))
    hidden = gelu(normed @ array(first.weight).T + array(first.bias))
    expected = softmax((hidden @ array(last.weight).T + array(last.bias)) / 0.5)
    np.testing.assert_allclose(array(weights(prompt_summary, torch.tensor([0, 1, 0]))), expected, atol=1e-12)


def test_limits_of_layer_weights() -> None:
    one, states = SharedWeights(1, 1, 8), [torch.randn(2, 3, 4)]
    assert torch.equal(weighted_sum(states, one(torch.zeros(2, 8), torch.tensor([0, 0]))), states[0])  # one layer
    equal, states = SharedWeights(24, 1, 8), list(torch.randn(24, 2, 3, 4))
    mean = weighted_sum(states, equal(torch.zeros(2, 8), torch.tensor([0, 0])))
    torch.testing.assert_close(mean, torch.stack(states).mean(0))  # equal weights
    peak = PerTaskWeights(24, 2, 8)
    with torch.no_grad():
        peak.weight[1, 7] = 1000.0
    chosen = weighted_sum(states, peak(torch.zeros(2, 8), torch.tensor([1, 1])))
    torch.testing.assert_close(chosen, states[7], atol=0, rtol=0)  # all weight on one


# The component gate: z_t = g_t A(h_t) + (1 - g_t) B(h_t, stats), g_t = sigmoid(W [h_t; q])


def reference_gate(
    gate: PromptGate, hidden: Array, lengths: list[int], prompt_summary: Array, task: list[int]
) -> Array:
    """Compute the gate in eval mode, frame by frame; statistics are normalised by the running ones of the task."""
    weights = {name: array(weight) for name, weight in gate.named_parameters()}
    joint = np.concatenate([weights["gate_hidden.weight"], weights["gate_prompt.weight"]], axis=1)  # W over [h; q]
    mixed = np.zeros((*hidden.shape[:2], joint.shape[0]))
    for row, length in enumerate(lengths):
        valid = hidden[row, :length]
        mean = valid.sum(0) / length
        stats = np.concatenate([mean, np.sqrt(((valid - mean) ** 2).sum(0) / length + 1e-5)])
        running = {name: array(value) for name, value in gate.stats_norm.norms[task[row]].named_buffers()}
        stats = (stats - running["running_mean"]) / np.sqrt(running["running_var"] + 1e-5)
        q = layer_norm(prompt_summary[row], weights["prompt_norm.weight"], weights["prompt_norm.bias"])
        for frame in range(hidden.shape[1]):
            h = hidden[row, frame]
            a = weights["linguistic.weight"] @ h + weights["linguistic.bias"]
            b = weights["paralinguistic.weight"] @ h + weights["paralinguistic.bias"]
            b = b + weights["paralinguistic_stats.weight"] @ stats
            g = 1 / (1 + np.exp(-(joint @ np.concatenate([h, q]) + weights["gate_hidden.bias"])))
            mixed[row, frame] = g * a + (1 - g) * b
    return mixed


@pytest.mark.parametrize("saturation", [0.0, 60.0, -60.0], ids=["between", "at 1", "at 0"])
def test_the_gate_mixes_two_projections(saturation: float) -> None:
    gate = randomized(PromptGate(4, 6, 8, 2)).eval()
    for norm in gate.stats_norm.norms:
        norm.running_mean, norm.running_var = torch.randn(8).double(), torch.rand(8).double() + 0.5
    with torch.no_grad():
        gate.gate_hidden.bias += saturation
    hidden, prompt_summary, lengths, task = (
        torch.randn(3, 5, 4).double(),
        torch.randn(3, 8).double(),
        [5, 1, 3],
        [0, 1, 0],
    )
    expected = reference_gate(gate, hidden.numpy(), lengths, prompt_summary.numpy(), task)
    found = array(gate(hidden, torch.tensor(lengths), prompt_summary, torch.tensor(task), rows_of(task)))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    if saturation > 0:
        np.testing.assert_allclose(found, array(gate.linguistic(hidden)), atol=1e-9)  # A alone
    if saturation < 0:
        with torch.no_grad():
            gate.linguistic.weight.fill_(100.0)
        found = array(gate(hidden, torch.tensor(lengths), prompt_summary, torch.tensor(task), rows_of(task)))
        np.testing.assert_allclose(found, expected, atol=1e-6)  # does not depend on A


# The fusion: F = sum_m beta_m Norm_m(S_m); Norm_M is the language model's own, which is applied already


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_the_fusion_is_the_weighted_sum_of_normalised_layers(layers: int) -> None:
    fusion = randomized(LayerFusion(PromptWeights(layers, 2, 8), nn.LayerNorm(8)))
    states, prompt_summary = torch.randn(layers, 3, 4, 8).double(), torch.randn(3, 8).double()
    beta = fusion.weights(prompt_summary, torch.tensor([0, 1, 0]))
    expected = np.zeros((3, 4, 8))
    for row in range(3):
        for layer in range(layers):
            state = states[layer, row].numpy()
            if layer < layers - 1:
                state = layer_norm(state, array(fusion.norms[layer].weight), array(fusion.norms[layer].bias))
            expected[row] += array(beta)[row, layer] * state
    np.testing.assert_allclose(array(fusion(list(states), beta)), expected, atol=1e-12)


# Trained parameters


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("wavlm"))


def from_folders(wavlm: str, llm: str, **options: Any) -> HarmoniFuseModel:
    """Build a frozen encoder, a frozen language model with LoRA and the parts between, with initial weights."""
    decoder = {"vocab_size": 257, "model": llm, "lora": LORA, **options}
    return build_model(0, SelfSupervisedEncoder(model=wavlm), decoder, LAST_BIAS)


@FAMILIES
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_both_tasks_reach_all_trained_parameters_and_no_frozen_ones(
    config: dict[str, Any], checkpointing: bool, wavlm: str, tmp_path: Path
) -> None:
    model = from_folders(wavlm, save_llm(tmp_path, config), gradient_checkpointing=checkpointing)
    with torch.no_grad():  # initial zeros would block the gradients of the layers before
        for name, weight in model.named_parameters():
            if "lora_B" in name or "mlp.3" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0e-3)
    for tasks in ((0, 0, 0), (1, 1, 1)):
        model(batch(tasks))[0].backward()
    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved == {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in moved} == {"layer_weights", "gate", "connector", "ctc", "decoder", "fusion"}
    assert {name.split(".")[0] for name in before.keys() - moved} == {"frontend", "decoder"}
    optimizer.step()
    assert {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])} == moved


# Before the first step, the output is that of the pre-trained language model


def pretrained(llm: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llm).eval()


@FAMILIES
@pytest.mark.parametrize("layers", [3, 24])
def test_initial_logits_are_those_of_the_pre_trained_model(
    config: dict[str, Any], layers: int, wavlm: str, tmp_path: Path
) -> None:
    llm = save_llm(tmp_path, {**config, "num_hidden_layers": layers, "initializer_range": 0.15})
    model, data = from_folders(wavlm, llm), batch((0, 1, 0))
    encoded = encode(model, data)
    spliced = model.splice_target(encoded, targets_of(data).tokens, targets_of(data).lengths)
    with torch.no_grad():
        states, _ = model.decoder(spliced.embeds, spliced.mask, spliced.position_ids)
        found = model.decoder.head(model.fusion(states, model.fusion.weights(encoded.prompt_summary, data.task)))
        mask = spliced.mask
        expected = pretrained(llm)(
            inputs_embeds=spliced.embeds, attention_mask=mask.long(), position_ids=spliced.position_ids
        ).logits
        even = model.decoder.head(model.fusion(states, torch.full((3, layers), 1 / layers)))
    largest = expected[mask].abs().max()
    assert (found - expected)[mask].abs().max() < 1e-4 * largest
    assert (even - expected)[mask].abs().max() > 0.1 * largest  # the bound distinguishes a fused model


@pytest.mark.parametrize("layers", [24, 100])
def test_the_initial_weight_of_the_last_layer(layers: int) -> None:
    weights = PromptWeights(layers, 2, 8, LAST_BIAS)
    weight = weights.double()(torch.randn(4, 8).double(), torch.tensor([0, 1, 0, 1]))[:, -1]
    others = (layers - 1) * math.exp(-LAST_BIAS)
    assert (1 - weight <= others).all()
    assert 2 * others < 1e-4  # states of equal norm differ by at most twice their norm


def test_a_fusion_that_starts_at_the_last_layer_can_be_trained() -> None:
    """A hundred steps of Adam move most of the weight to the layer from which the targets were computed."""
    torch.manual_seed(0)
    fusion, head = LayerFusion(PromptWeights(6, 1, 16, LAST_BIAS), nn.LayerNorm(16)), nn.Linear(16, 20)
    states, prompt_summary = list(torch.randn(6, 8, 10, 16)), torch.randn(8, 16)
    targets = head(fusion.norms[2](states[2])).argmax(-1).flatten()
    optimizer, chosen = torch.optim.AdamW(fusion.weights.parameters(), lr=1.0e-2), torch.zeros(8, dtype=torch.long)
    for _ in range(100):
        logits = head(fusion(states, fusion.weights(prompt_summary, chosen))).flatten(0, 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
    assert fusion.weights(prompt_summary, chosen)[:, 2].mean() > 0.5


@FAMILIES
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_generated_text_is_that_of_hugging_face_s_generate(
    config: dict[str, Any], options: dict[str, Any], wavlm: str, tmp_path: Path
) -> None:
    llm = save_llm(tmp_path, {**config, "initializer_range": 0.3})
    model = from_folders(wavlm, llm)
    seconds = [0.5, 0.8, 0.61]
    data = batch((0, 0, 0), seconds)
    encoded = encode(model, data)
    texts = generate_text(model, encoded, data.task, EOS, **options)
    for row, text in enumerate(texts):
        alone = encode(model, row_of(data, row))
        prefix = model.splice_prefix(alone)
        [tokens] = (
            pretrained(llm)
            .generate(
                inputs_embeds=prefix.embeds,
                attention_mask=prefix.mask.long(),
                max_new_tokens=int(alone.frame_lengths) + 1,
                logits_processor=LogitsProcessorList([MaxLengths(alone.frame_lengths, EOS)]),
                do_sample=False,
                eos_token_id=EOS,
                pad_token_id=EOS,
                **options,
            )
            .tolist()
        )
        assert text == (tokens[: tokens.index(EOS)] if EOS in tokens else tokens)
    assert len({tuple(text) for text in texts}) > 1 and max(map(len, texts)) > 3
