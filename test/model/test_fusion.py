"""Fusion of the language model's layers: the formula, and the initialisation at the last layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import LLAMA, QWEN2
from torch import nn

from harmonifuse_espnet.model.fusion import LastLayerFusion, LayerFusion
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import LastWeights, PromptWeights

STATES = [torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def fusion(last_bias: float = 0.0) -> LayerFusion:
    torch.manual_seed(0)
    norm = nn.LayerNorm(8)
    nn.init.normal_(norm.weight)
    return LayerFusion(PromptWeights(3, 2, 8, last_bias), norm)


def test_the_fused_states_follow_the_formula() -> None:
    module, beta = fusion(), np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]])
    expected = beta[:, 2, None, None] * STATES[2].numpy()
    for layer, norm in enumerate(module.norms):
        s = STATES[layer].numpy()
        normed = (s - s.mean(-1, keepdims=True)) / np.sqrt(s.var(-1, keepdims=True) + 1e-5)
        normed = normed * norm.weight.detach().numpy() + norm.bias.detach().numpy()
        expected = expected + beta[:, layer, None, None] * normed
    fused = module(STATES, torch.from_numpy(beta).float())
    np.testing.assert_allclose(fused.detach(), expected, rtol=1e-4, atol=1e-5)


def test_one_hot_weights_select_one_layer() -> None:
    torch.testing.assert_close(fusion()(STATES, torch.eye(3)[[2, 2]]), STATES[2])
    first = fusion()
    torch.testing.assert_close(first(STATES, torch.eye(3)[[0, 0]]), first.norms[0](STATES[0]))


def test_with_one_layer_the_output_is_its_state() -> None:
    module = LayerFusion(PromptWeights(1, 2, 8), nn.LayerNorm(8))
    beta = module.weights(torch.randn(2, 8), torch.tensor([0, 1]))
    torch.testing.assert_close(module(STATES[:1], beta), STATES[0])


def test_norms_are_trained_copies_of_a_frozen_final_norm() -> None:
    norm = nn.LayerNorm(8)
    norm.requires_grad_(False)
    module = LayerFusion(PromptWeights(3, 2, 8), norm)
    assert len(module.norms) == 2 and all(parameter.requires_grad for parameter in module.norms.parameters())
    with torch.no_grad():
        module.norms[0].weight.fill_(7.0)
    assert norm.weight.eq(1.0).all() and module.norms[1].weight.eq(1.0).all()


def test_without_fusion_there_are_no_parameters() -> None:
    module = LastLayerFusion(LastWeights(3, 2, 8))
    beta = module.weights(torch.randn(2, 8), torch.tensor([0, 1]))
    assert torch.equal(module(STATES, beta), STATES[2]) and not list(module.parameters())


@pytest.mark.parametrize("config", [QWEN2, LLAMA], ids=["qwen2", "llama"])
def test_with_a_last_bias_of_10_the_output_is_that_of_the_language_model(config: dict[str, object]) -> None:
    torch.manual_seed(0)
    decoder = LanguageModel(20, config=config).eval()
    module = LayerFusion(PromptWeights(3, 2, 32, last_bias=10.0), decoder.final_norm)
    tokens = torch.randint(20, (2, 6))
    states, _ = decoder(decoder.embed(tokens), torch.ones(2, 6), torch.arange(6)[None].expand(2, -1))
    beta = module.weights(torch.randn(2, 32), torch.tensor([0, 1]))
    expected = decoder.llm(tokens).logits.softmax(-1)
    torch.testing.assert_close(decoder.head(module(states, beta)).softmax(-1), expected, atol=1e-4, rtol=0)
    equal = decoder.head(module(states, torch.full((2, 3), 1 / 3))).softmax(-1)
    assert (equal - expected).abs().max() > 1e-3  # well above the tolerance
