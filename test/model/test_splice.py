"""Splice: prompt, speech and target without gaps, with the padding on either side."""

from __future__ import annotations

import pytest
import torch

from harmonifuse_espnet.model.splice import IGNORE, Segment, splice


def segment(rows: list[list[float]], size: int, labels: bool = False) -> Segment:
    """Make a segment with numbers as embeddings of width 1; the padding is 99, which must not be in any result."""
    embeds = torch.tensor([[*row, *[99.0] * (size - len(row))] for row in rows])
    mask = torch.tensor([[position < len(row) for position in range(size)] for row in rows])
    return Segment(embeds[..., None], mask, embeds.long() if labels else None)


def example() -> list[Segment]:
    prompt = segment([[1, 2], [1], [1, 2, 3]], 3)
    speech = segment([[10, 11, 12], [10], [10, 11]], 4)
    target = segment([[20], [20, 21, 22], [20, 21]], 3, labels=True)
    return [prompt, speech, target]


I = IGNORE  # noqa: E741


def test_rows_are_padded_on_the_right() -> None:
    spliced = splice(example())
    assert spliced.embeds[..., 0].tolist() == [
        [1, 2, 10, 11, 12, 20, 0],
        [1, 10, 20, 21, 22, 0, 0],
        [1, 2, 3, 10, 11, 20, 21],
    ]
    assert spliced.mask.int().tolist() == [[1] * 6 + [0], [1] * 5 + [0] * 2, [1] * 7]
    assert spliced.labels.tolist() == [[I] * 5 + [20, I], [I, I, 20, 21, 22, I, I], [I] * 5 + [20, 21]]
    assert [row[:5] for row in spliced.position_ids.tolist()] == [[0, 1, 2, 3, 4]] * 3


def test_rows_are_padded_on_the_left() -> None:
    spliced = splice(example(), "left")
    assert spliced.embeds[..., 0].tolist() == [
        [0, 1, 2, 10, 11, 12, 20],
        [0, 0, 1, 10, 20, 21, 22],
        [1, 2, 3, 10, 11, 20, 21],
    ]
    assert spliced.position_ids.tolist() == [[0, 0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]]
    assert spliced.labels.tolist() == [[I] * 6 + [20], [I] * 4 + [20, 21, 22], [I] * 5 + [20, 21]]


def test_the_padding_side_does_not_change_valid_positions() -> None:
    right, left = splice(example()), splice(example(), "left")
    for name in ("embeds", "labels", "position_ids"):
        assert torch.equal(getattr(right, name)[right.mask], getattr(left, name)[left.mask])


def test_the_prefix_in_decoding_is_that_of_training() -> None:
    """It is the training sequence up to the target, at the same positions."""
    prefix, full = splice(example()[:2], "left"), splice(example())
    for row in range(3):
        size = int(prefix.mask[row].sum())
        assert torch.equal(prefix.embeds[row, -size:], full.embeds[row, :size])
        assert torch.equal(prefix.position_ids[row, -size:], full.position_ids[row, :size])
        assert (full.labels[row, :size] == IGNORE).all() and full.labels[row, size] == 20


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_rows_stay_in_order(side: str) -> None:
    long, short = list(range(1, 301)), list(range(301, 401))
    spliced = splice([segment([short, long], 300), segment([long, short], 300)], side)
    assert [spliced.embeds[row, spliced.mask[row], 0].tolist() for row in (0, 1)] == [short + long, long + short]


def test_gradients_reach_valid_positions_only() -> None:
    segments = example()
    embeds = segments[1].embeds.requires_grad_()
    splice(segments).embeds.sum().backward()
    assert embeds.grad is not None and embeds.grad[..., 0].tolist() == segments[1].mask.float().tolist()


def test_an_empty_segment_changes_nothing() -> None:
    prompt, speech, _ = example()
    empty = Segment(torch.zeros(3, 0, 1), torch.zeros(3, 0, dtype=torch.bool), torch.zeros(3, 0, dtype=torch.long))
    assert torch.equal(splice([prompt, empty, speech]).embeds, splice([prompt, speech]).embeds)


def test_other_padding_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="padding_side must be left or right, got 'middle'"):
        splice(example(), "middle")
