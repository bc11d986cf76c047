"""Attention over concatenated utterances: calls cover every frame once, and pad utterances of different lengths."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from harmonifuse_espnet.model.encoders import packed_attention
from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit
from harmonifuse_espnet.model.encoders.packed_attention import group_calls
from harmonifuse_espnet.model.encoders.wavlm_attention import ALIGNMENT, position_bias, position_gate

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (1, [(0, 3), (3, 6), (6, 8), (8, 12)]),
        (2 * 2 * 3**2, [(0, 6), (6, 8), (8, 12)]),
        (2 * 3 * 3**2, [(0, 8), (8, 12)]),
        (2**20, [(0, 12)]),
    ],
)
def test_adjacent_utterances_share_a_call_up_to_the_limit_of_scores(
    scores: int, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "SCORES_PER_CALL", DeviceLimit(scores, 1))
    row = torch.arange(12)[:, None, None]
    calls = group_calls([3, 3, 2, 4], heads=2, device=CPU)
    assert [(call.start, call.stop) for call in calls] == expected
    assert torch.cat([call.unpad(call.pad(row)) for call in calls]).equal(row)


def test_a_call_pads_shorter_utterances_and_has_their_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "SCORES_PER_CALL", DeviceLimit(2**20, 1))
    (call,) = group_calls([1, 3], heads=1, device=CPU)
    padded = call.pad(torch.arange(4)[:, None, None])[..., 0, 0]
    assert call.mask is not None and call.mask.tolist() == [[True, False, False], [True, True, True]]
    assert padded[call.mask].tolist() == [0, 1, 2, 3]
    (equal,) = group_calls([3, 3], heads=1, device=CPU)
    assert equal.mask is None


@pytest.fixture
def attention() -> WavLMAttention:
    torch.manual_seed(0)
    module = WavLMAttention(16, 2, num_buckets=32, max_distance=40)
    nn.init.normal_(module.gru_rel_pos_const)
    return module.requires_grad_(False)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_the_ungated_bias_is_that_of_hugging_face_with_aligned_rows(attention: WavLMAttention, size: int) -> None:
    bias = position_bias(attention, size)
    assert torch.equal(bias[..., :size], attention.compute_bias(size, size))
    assert bias.is_contiguous() and bias.size(-1) % ALIGNMENT == 0


def test_the_gate_follows_its_formula(attention: WavLMAttention) -> None:
    """``a (b c - 1) + 2`` is 2 if a is 0, and ``b c + 1`` if a is 1."""
    hidden = torch.randn(1, 5, 2, 8)
    logits = (hidden @ attention.gru_rel_pos_linear.weight.T + attention.gru_rel_pos_linear.bias).view(1, 5, 2, 2, 4)
    a, b = logits.sum(-1).sigmoid().unbind(-1)
    expected = a * (b * attention.gru_rel_pos_const.view(2) - 1) + 2
    torch.testing.assert_close(position_gate(attention, hidden), expected[..., None])
    attention.gru_rel_pos_linear.bias[:4] = -1e4
    assert torch.equal(position_gate(attention, hidden), torch.full((1, 5, 2, 1), 2.0))
