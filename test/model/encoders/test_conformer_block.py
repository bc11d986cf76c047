"""Conformer blocks: the states of an utterance do not depend on the padding."""

from __future__ import annotations

import pytest
import torch

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.conformer_block import ConformerBlock, ConvSubsampling, RotaryAttention

LENGTHS = torch.tensor([9, 5, 1])


def padded(width: int = 8) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 9, width)


def test_length_mask_of_literal_lengths() -> None:
    assert length_mask(torch.tensor([0, 2, 3]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(("factor", "expected"), [(4, [3, 2, 1]), (8, [2, 1, 1]), (16, [1, 1, 1])])
def test_subsampling_divides_the_frames_rounding_up_and_ignores_padding(factor: int, expected: list[int]) -> None:
    layer, features = ConvSubsampling(8, 16, factor), padded()
    clean = features * length_mask(LENGTHS, 9)[..., None]
    states, lengths = layer(clean, LENGTHS)
    assert states.shape == (3, expected[0], 16) and lengths.tolist() == expected
    for row, length in enumerate(LENGTHS.tolist()):
        alone, count = layer(clean[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(states[row, : int(count)], alone[0], atol=1e-6, rtol=0)
        assert not states[row, int(count) :].any()


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_initial_subsampling_keeps_the_variation_over_time(factor: int) -> None:
    torch.manual_seed(0)
    states, _ = ConvSubsampling(80, 64, factor)(torch.randn(2, 400, 80), torch.tensor([400, 400]))
    assert states.std(1).mean() > 0.5 * states.mean(1).abs().mean()


@pytest.mark.parametrize("factor", [0, 1, 2, 6])
def test_a_factor_that_is_not_a_power_of_two_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match=f"subsampling must be a power of two .*, got {factor}"):
        ConvSubsampling(8, 16, factor)


@pytest.mark.parametrize("kernel_size", [3, 15])
def test_a_block_does_not_depend_on_the_padding(kernel_size: int) -> None:
    block, hidden, mask = ConformerBlock(8, 2, 16, kernel_size, dropout=0.0), padded(), length_mask(LENGTHS, 9)
    states = block(hidden, mask)
    other = block(torch.where(mask[..., None], hidden, 1000.0), mask)
    torch.testing.assert_close(states[mask], other[mask], atol=1e-6, rtol=0)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = block(hidden[row : row + 1, :length], mask[row : row + 1, :length])[0]
        torch.testing.assert_close(states[row, :length], alone, atol=1e-5, rtol=0)


def test_attention_depends_on_the_order_of_other_frames() -> None:
    torch.manual_seed(1)
    attention, hidden = RotaryAttention(8, 2, dropout=0.0), padded()[:1]
    mask = torch.ones(1, 9, dtype=torch.bool)
    states = attention(hidden, mask)
    swapped = attention(hidden[:, [0, 2, 1, *range(3, 9)]], mask)
    assert (states[:, 3:] - swapped[:, 3:]).abs().min(-1).values.max() > 1e-4


def test_attention_depends_on_distances_only() -> None:
    torch.manual_seed(1)
    attention, hidden = RotaryAttention(8, 2, dropout=0.0), padded()[:1, :4]
    shifted = torch.cat([torch.zeros(1, 3, 8), hidden], dim=1)
    mask = torch.tensor([[False] * 3 + [True] * 4])
    alone = attention(hidden, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(attention(shifted, mask)[:, 3:], alone, atol=1e-5, rtol=0)


def test_a_width_that_heads_do_not_divide_into_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="width 12 must be a multiple of twice the number of heads, 4"):
        RotaryAttention(12, 4, 0.0)
