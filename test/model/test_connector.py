"""Connector: stacked frames. CTC head: greedy transcripts and loss, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harmonifuse_espnet.model.connector import StackingConnector
from harmonifuse_espnet.model.ctc import CTCHead


def test_consecutive_frames_are_stacked() -> None:
    connector = StackingConnector(2, 4, stack=2)
    connector.project = nn.Identity()  # type: ignore[assignment]
    frames = torch.arange(1.0, 13.0).view(1, 6, 2).repeat(2, 1, 1)
    stacked, lengths = connector(frames[:, :5], torch.tensor([5, 2]))
    assert stacked.tolist() == [
        [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]],
        [[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert lengths.tolist() == [3, 1]


@pytest.mark.parametrize("stack", [1, 2, 3, 4])
def test_lengths_are_rounded_up_and_padding_does_not_change_valid_frames(stack: int) -> None:
    torch.manual_seed(0)
    connector, frames = StackingConnector(3, 5, stack), torch.randn(2, 7, 3)
    frames[1, 5:] = 1e3
    output, lengths = connector(frames, torch.tensor([7, 5]))
    assert lengths.tolist() == [math.ceil(7 / stack), math.ceil(5 / stack)] and output.shape == (2, lengths[0], 5)
    single, _ = connector(frames[1:, :5], torch.tensor([5]))
    torch.testing.assert_close(output[1, : int(lengths[1])], single[0])


@pytest.mark.parametrize(
    ("path", "length", "tokens"),
    [
        ([0, 0, 0], 3, []),
        ([1, 1, 1], 3, [0]),
        ([1, 0, 1], 3, [0, 0]),
        ([0, 3, 3, 0, 3, 2, 2, 1, 0], 9, [2, 2, 1, 0]),
        ([1, 2, 3], 2, [0, 1]),
        ([1, 2], 0, []),
    ],
)
def test_the_greedy_path_merges_repeats_and_removes_blanks(path: list[int], length: int, tokens: list[int]) -> None:
    log_probs = torch.eye(4)[path].clamp(min=1e-6).log()[None]
    assert CTCHead.greedy(log_probs, torch.tensor([length])) == [tokens]


def test_the_head_returns_log_probabilities_with_the_blank_at_index_0() -> None:
    head = CTCHead(6, 9)
    log_probs = head(torch.randn(2, 3, 6))
    assert log_probs.shape == (2, 3, 10)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3))
    with torch.no_grad():
        head.project.bias.copy_(torch.tensor([1e4, *[0.0] * 9]))
    assert CTCHead.greedy(head(torch.randn(2, 3, 6)), torch.tensor([3, 3])) == [[], []]


def test_the_ctc_loss_is_the_sum_over_all_paths() -> None:
    # Three frames, one token x: paths x--, -x-, --x, xx-, -xx, xxx (x-x would be two tokens).
    blank, x = torch.tensor([0.5, 0.6, 0.7]), torch.tensor([0.4, 0.3, 0.2])
    log_probs = torch.stack([blank, x, 1 - blank - x], dim=-1).log()[None]
    paths = ["x--", "-x-", "--x", "xx-", "-xx", "xxx"]
    total = sum(math.prod(float(x[t] if path[t] == "x" else blank[t]) for t in range(3)) for path in paths)
    loss = CTCHead.loss(log_probs, torch.tensor([3]), torch.tensor([[0]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(-math.log(total), rel=1e-5)


def test_the_ctc_loss_is_the_mean_over_utterances_and_ignores_padding() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(2, 8, 5).log_softmax(-1)
    tokens, frames, count = torch.tensor([[0, 1, 3], [2, 2, 2]]), torch.tensor([8, 5]), torch.tensor([3, 1])
    singles = [
        CTCHead.loss(
            log_probs[row : row + 1, : int(frames[row])],
            frames[row : row + 1],
            tokens[row : row + 1, : int(count[row])],
            count[row : row + 1],
        )
        for row in (0, 1)
    ]
    torch.testing.assert_close(CTCHead.loss(log_probs, frames, tokens, count), sum(singles) / 2)


def test_a_target_too_long_for_its_frames_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    tokens, frames = torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 3])  # 1 1 needs three frames: 1, blank, 1
    loss = CTCHead.loss(logits.log_softmax(-1), frames, tokens, torch.tensor([2, 2]))
    other = CTCHead.loss(logits[1:].log_softmax(-1), frames[1:], tokens[1:], torch.tensor([2]))
    torch.testing.assert_close(loss, other / 2)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert not logits.grad[0].any() and logits.grad[1].any()
