"""Layer weights: the formulas in NumPy, and whether each class depends on the prompt or the task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harmonifuse_espnet.model.layer_weights import (
    LastWeights,
    LayerWeights,
    PerTaskWeights,
    PromptWeights,
    SharedWeights,
    UniformWeights,
    weighted_sum,
)

CLASSES = [SharedWeights, PerTaskWeights, PromptWeights, LastWeights, UniformWeights]
TASK = torch.tensor([0, 2, 2, 1])


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def prompt_summary(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))


def disturb(weights: LayerWeights) -> LayerWeights:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.normal_()
    return weights


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("layers", [1, 5])
def test_the_weights_of_an_utterance_sum_to_1(kind: type[LayerWeights], layers: int) -> None:
    rows = disturb(kind(layers, 3, 8, temperature=0.5))(prompt_summary(), TASK)
    assert rows.shape == (4, layers) and (rows >= 0).all()
    torch.testing.assert_close(rows.sum(1), torch.ones(4))
    if layers == 1:
        torch.testing.assert_close(rows, torch.ones(4, 1))


@pytest.mark.parametrize("kind", [SharedWeights, PerTaskWeights, PromptWeights])
@pytest.mark.parametrize(("last_bias", "temperature"), [(0.0, 1.0), (10.0, 1.0), (2.0, 0.5)])
def test_the_initial_weights_follow_from_the_last_layer_s_bias(
    kind: type[LayerWeights], last_bias: float, temperature: float
) -> None:
    expected = softmax(np.array([0.0, 0.0, 0.0, last_bias]) / temperature)
    rows = kind(4, 3, 8, last_bias, temperature)(prompt_summary(), TASK).detach().numpy()
    np.testing.assert_allclose(rows, np.tile(expected, (4, 1)), rtol=1e-5)


def test_shared_weights_follow_the_published_formula() -> None:
    weights = disturb(SharedWeights(4, 3, 8))
    logits = weights.weight.detach().numpy()
    np.testing.assert_allclose(weights(prompt_summary(), TASK).detach(), np.tile(softmax(logits), (4, 1)), rtol=1e-5)


def test_per_task_weights_have_a_row_and_a_gradient_for_each_task() -> None:
    weights = disturb(PerTaskWeights(4, 3, 8, temperature=2.0))
    rows = weights(prompt_summary(), TASK)
    np.testing.assert_allclose(rows.detach(), softmax(weights.weight.detach().numpy() / 2.0)[TASK], rtol=1e-5)
    assert not torch.allclose(rows[0], rows[1]) and torch.equal(rows[1], rows[2])
    weights(prompt_summary(), torch.tensor([2, 2, 2, 2]))[:, 0].sum().backward()
    assert weights.weight.grad is not None
    assert weights.weight.grad.abs().sum(1).gt(0).tolist() == [False, False, True]


def test_prompt_weights_depend_on_the_prompt_but_not_on_the_norm_of_its_summary() -> None:
    weights = disturb(PromptWeights(4, 3, 8, temperature=3.0))
    rows = weights(prompt_summary(), TASK)
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    torch.testing.assert_close(weights(prompt_summary() * 100, TASK), rows, atol=1e-3, rtol=0)
    torch.testing.assert_close(weights(prompt_summary(), torch.zeros_like(TASK)), rows)
    q = prompt_summary().numpy()
    norm, inner, _, last = (module for module in weights.mlp)
    hidden = (q - q.mean(1, keepdims=True)) / np.sqrt(q.var(1, keepdims=True) + 1e-5)
    hidden = hidden * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    hidden = torch.nn.functional.gelu(torch.from_numpy(hidden) @ inner.weight.T + inner.bias)
    logits = (hidden @ last.weight.T + last.bias).detach().numpy()
    np.testing.assert_allclose(rows.detach(), softmax(logits / 3.0), rtol=1e-4)


def test_prompt_weights_have_gradients_at_initialisation() -> None:
    weights = PromptWeights(4, 3, 8, last_bias=1.0)
    weights(prompt_summary(), TASK)[:, 0].sum().backward()
    assert weights.mlp[-1].weight.grad.abs().sum() > 0 and weights.mlp[-1].bias.grad.abs().sum() > 0


def test_last_and_uniform_weights_are_constant() -> None:
    assert LastWeights(3, 3, 8)(prompt_summary(), TASK).tolist() == [[0, 0, 1]] * 4
    assert UniformWeights(4, 3, 8)(prompt_summary(), TASK).tolist() == [[0.25] * 4] * 4


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        SharedWeights(4, 3, 8, temperature=0.0)


def test_the_weighted_sum_agrees_with_numpy_and_with_one_hot_and_equal_weights() -> None:
    states = [torch.randn(2, 5, 3) for _ in range(4)]
    weights = torch.rand(2, 4)
    expected = np.einsum("lbtd,bl->btd", np.stack([state.numpy() for state in states]), weights.numpy())
    np.testing.assert_allclose(weighted_sum(states, weights), expected, rtol=1e-5, atol=1e-6)
    one_hot = torch.eye(4)[[2, 0]]
    torch.testing.assert_close(weighted_sum(states, one_hot), torch.stack([states[2][0], states[0][1]]))
    mean = weighted_sum(states, torch.full((2, 4), 0.25))
    torch.testing.assert_close(mean, torch.stack(states).mean(0))


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_other_numbers_of_states_than_of_weights_are_refused(count: int) -> None:
    states = [torch.randn(2, 5, 3) for _ in range(count)]
    for given in (states, iter(states)):
        with pytest.raises(ValueError, match=f"{count} layer states for 4 layer weights"):
            weighted_sum(given, torch.rand(2, 4))


def test_bfloat16_states_are_summed_in_the_precision_of_the_weights() -> None:
    states = [torch.ones(1, 1, 1, dtype=torch.bfloat16)] * 3
    weights = torch.tensor([[1.0, 2.0**-12, 2.0**-12]], requires_grad=True)
    total = weighted_sum(iter(states), weights)
    assert total.dtype == torch.float32 and total.item() == 1.0 + 2.0**-11  # in bfloat16: 1
    total.sum().backward()
    assert weights.grad is not None and weights.grad.tolist() == [[1.0, 1.0, 1.0]]
