"""Component gate: the formula in NumPy, open and closed gates, and normalised utterance statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import rows_of

from harmonifuse_espnet.model.gate import Projection, PromptGate, TaskGate, TaskNorm, utterance_stats

LENGTHS, TASK, ROWS = torch.tensor([6, 4]), torch.tensor([0, 1]), rows_of([0, 1])


def arguments(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]:
    torch.manual_seed(seed)
    return torch.randn(2, 6, 3), LENGTHS, torch.randn(2, 8), TASK, ROWS


def gate(kind: type[Projection] = PromptGate, bias: float | None = None) -> Projection:
    torch.manual_seed(5)
    module = kind(3, 4, 8, 2).eval()
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.running_mean, norm.running_var = torch.randn(6), torch.rand(6) + 0.5
    if bias is not None:
        with torch.no_grad():
            module.gate_hidden.bias.fill_(bias)
    return module


def test_the_gated_output_follows_the_formula() -> None:
    module = gate()
    hidden, lengths, prompt_summary, task, rows = arguments()
    h, q = hidden.numpy().astype(float), prompt_summary.numpy().astype(float)
    p = {name: value.detach().numpy().astype(float) for name, value in module.named_parameters()}
    q = (q - q.mean(1, keepdims=True)) / np.sqrt(q.var(1, keepdims=True) + 1e-5)  # a new LayerNorm scales by 1
    for row, length in enumerate(lengths.tolist()):  # row 0 is of task 0, row 1 of task 1
        valid, norm = (
            h[row, :length],
            {k: v.numpy().astype(float) for k, v in module.stats_norm.norms[row].named_buffers()},
        )
        stats = np.concatenate([valid.mean(0), np.sqrt(valid.var(0) + 1e-5)])
        stats = (stats - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
        g = 1 / (
            1
            + np.exp(-(h[row] @ p["gate_hidden.weight"].T + p["gate_hidden.bias"] + q[row] @ p["gate_prompt.weight"].T))
        )
        a = h[row] @ p["linguistic.weight"].T + p["linguistic.bias"]
        b = h[row] @ p["paralinguistic.weight"].T + p["paralinguistic.bias"] + p["paralinguistic_stats.weight"] @ stats
        np.testing.assert_allclose(module(*arguments())[row].detach(), g * a + (1 - g) * b, rtol=1e-4, atol=1e-5)


def test_an_open_gate_returns_the_linguistic_projection_and_a_closed_one_the_paralinguistic() -> None:
    hidden, lengths, *_ = arguments()
    open_gate, closed_gate = gate(bias=1e4), gate(bias=-1e4)
    torch.testing.assert_close(open_gate(*arguments()), open_gate.linguistic(hidden))
    stats = closed_gate.paralinguistic_stats(closed_gate.stats_norm(utterance_stats(hidden, lengths), ROWS))
    torch.testing.assert_close(closed_gate(*arguments()), closed_gate.paralinguistic(hidden) + stats[:, None])
    assert (open_gate(*arguments()) - closed_gate(*arguments())).abs().max() > 0.1


def test_without_a_gate_there_is_one_projection() -> None:
    module = gate(Projection)
    torch.testing.assert_close(module(*arguments()), module.linguistic(arguments()[0]))
    assert len(list(module.parameters())) == 2
    hidden, _, prompt_summary, task, _ = arguments()
    assert module.gate(hidden, prompt_summary, task) is None


def test_a_prompt_gate_depends_on_the_prompt_and_not_on_the_task() -> None:
    module = gate()
    hidden, _, prompt_summary, task, _ = arguments()
    first = module.gate(hidden, prompt_summary, task)
    assert ((first > 0) & (first < 1)).all() and first.shape == (2, 6, 4)
    torch.testing.assert_close(module.gate(hidden, prompt_summary, 1 - task), first)
    assert (module.gate(hidden, prompt_summary.flip(0), task) - first).abs().max() > 0.01


def test_a_task_gate_depends_on_the_task_and_not_on_the_prompt() -> None:
    module = gate(TaskGate)
    assert isinstance(module, TaskGate)
    hidden, _, prompt_summary, task, _ = arguments()
    first = module.gate(hidden, prompt_summary, task)
    torch.testing.assert_close(module.gate(hidden, prompt_summary.flip(0), task), first)
    assert (module.gate(hidden, prompt_summary, 1 - task) - first).abs().max() > 0.01
    module(hidden, LENGTHS, prompt_summary, torch.tensor([1, 1]), rows_of([1, 1])).sum().backward()
    assert module.task_embedding.weight.grad is not None
    assert module.task_embedding.weight.grad.abs().sum(1).gt(0).tolist() == [False, True]


@pytest.mark.parametrize("kind", [Projection, PromptGate, TaskGate])
def test_padding_does_not_change_valid_frames(kind: type[Projection]) -> None:
    module = gate(kind)
    hidden, lengths, prompt_summary, task, rows = arguments()
    expected = module(hidden, lengths, prompt_summary, task, rows)[1, :4]
    padded = hidden.clone()
    padded[1, 4:] = 1e3
    torch.testing.assert_close(module(padded, lengths, prompt_summary, task, rows)[1, :4], expected)
    single = module(hidden[1:, :4], lengths[1:], prompt_summary[1:], task[1:], rows_of([1]))[0]
    torch.testing.assert_close(single, expected)


def test_utterance_statistics_are_mean_and_standard_deviation_of_valid_frames() -> None:
    stats = utterance_stats(torch.tensor([[[1.0, 2.0], [5.0, 2.0], [99.0, 99.0]]]), torch.tensor([2]))
    torch.testing.assert_close(stats, torch.tensor([[3.0, 2.0, 2.0, 0.0]]), atol=0.004, rtol=0)
    constant = torch.ones(1, 4, 2, requires_grad=True)
    utterance_stats(constant, torch.tensor([4])).sum().backward()
    assert constant.grad is not None and constant.grad.isfinite().all()


def test_statistics_are_normalised_by_the_batch_in_training_and_by_running_statistics_in_decoding() -> None:
    torch.manual_seed(0)
    norm, mean, std = TaskNorm(3, num_tasks=2), torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [4.0]])
    task = torch.tensor([0, 1] * 16)
    for _ in range(200):
        values = mean[task] + std[task] * torch.randn(32, 3)
        out = norm(values, rows_of(task.tolist()))
    for index in (0, 1):
        torch.testing.assert_close(out[task == index].mean(0), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(out[task == index].std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    norm.eval()
    one = norm(torch.full((1, 3), 9.0), rows_of([1]))
    torch.testing.assert_close(one, torch.ones(1, 3), atol=0.3, rtol=0)  # one deviation above its task's mean
    torch.testing.assert_close(norm(torch.full((2, 3), 9.0), rows_of([1, 0]))[:1], one)


@pytest.mark.parametrize(("utterances", "updated"), [(1, False), (2, True), (7, True)])
def test_few_utterances_of_a_task_are_normalised_as_in_decoding(utterances: int, updated: bool) -> None:
    torch.manual_seed(0)
    norm = TaskNorm(3, num_tasks=2)
    norm(torch.randn(8, 3) + 2.0, rows_of([0] * 8))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    values, rows = torch.randn(20, 3, requires_grad=True), rows_of([0] * utterances + [1] * (20 - utterances))
    trained = norm(values, rows)[:utterances]
    (slope,) = torch.autograd.grad(trained.sum(), values)
    torch.testing.assert_close(slope[:utterances], norm.norms[0].running_var.add(1e-5).rsqrt().expand(utterances, 3))
    torch.testing.assert_close(trained, norm.eval()(values, rows)[:utterances])
    changed = {name for name, value in norm.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("norms.0") for name in changed) == updated
    assert any(name.startswith("norms.1") for name in changed)
