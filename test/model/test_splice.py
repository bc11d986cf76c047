"""Sequences, literally: prompt, speech and answer without gaps, the same content on either side."""

from __future__ import annotations

import pytest
import torch

from harmonifuse_espnet.model.splice import IGNORE, Segment, splice


def segment(rows: list[list[float]], size: int, labels: bool = False) -> Segment:
    """Numbers as embeddings of width 1; what lies beyond a row's end is 99, which must never be seen."""
    embeds = torch.tensor([[*row, *[99.0] * (size - len(row))] for row in rows])
    mask = torch.tensor([[place < len(row) for place in range(size)] for row in rows])
    return Segment(embeds[..., None], mask, embeds.long() if labels else None)


def example() -> list[Segment]:
    prompt = segment([[1, 2], [1], [1, 2, 3]], 3)
    speech = segment([[10, 11, 12], [10], [10, 11]], 4)
    answer = segment([[20], [20, 21, 22], [20, 21]], 3, labels=True)
    return [prompt, speech, answer]


I = IGNORE  # noqa: E741


def test_padded_on_the_right_literally() -> None:
    joined = splice(example())
    assert joined.embeds[..., 0].tolist() == [
        [1, 2, 10, 11, 12, 20, 0],
        [1, 10, 20, 21, 22, 0, 0],
        [1, 2, 3, 10, 11, 20, 21],
    ]
    assert joined.mask.int().tolist() == [[1] * 6 + [0], [1] * 5 + [0] * 2, [1] * 7]
    assert joined.labels.tolist() == [[I] * 5 + [20, I], [I, I, 20, 21, 22, I, I], [I] * 5 + [20, 21]]
    assert [row[:5] for row in joined.position_ids.tolist()] == [[0, 1, 2, 3, 4]] * 3


def test_padded_on_the_left_literally() -> None:
    joined = splice(example(), "left")
    assert joined.embeds[..., 0].tolist() == [
        [0, 1, 2, 10, 11, 12, 20],
        [0, 0, 1, 10, 20, 21, 22],
        [1, 2, 3, 10, 11, 20, 21],
    ]
    assert joined.position_ids.tolist() == [[0, 0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]]
    assert joined.labels.tolist() == [[I] * 6 + [20], [I] * 4 + [20, 21, 22], [I] * 5 + [20, 21]]


def test_both_sides_hold_the_same() -> None:
    right, left = splice(example()), splice(example(), "left")
    for name in ("embeds", "labels", "position_ids"):
        assert torch.equal(getattr(right, name)[right.mask], getattr(left, name)[left.mask])


def test_what_is_continued_is_what_was_trained() -> None:
    """The prefix of inference is the training sequence up to the answer, at the same positions."""
    prefix, whole = splice(example()[:2], "left"), splice(example())
    for row in range(3):
        size = int(prefix.mask[row].sum())
        assert torch.equal(prefix.embeds[row, -size:], whole.embeds[row, :size])
        assert torch.equal(prefix.position_ids[row, -size:], whole.position_ids[row, :size])
        assert (whole.labels[row, :size] == IGNORE).all() and whole.labels[row, size] == 20


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_rows_keep_their_order(side: str) -> None:
    long, short = list(range(1, 301)), list(range(301, 401))
    joined = splice([segment([short, long], 300), segment([long, short], 300)], side)
    assert [joined.embeds[row, joined.mask[row], 0].tolist() for row in (0, 1)] == [short + long, long + short]


def test_gradients_reach_valid_positions_only() -> None:
    segments = example()
    embeds = segments[1].embeds.requires_grad_()
    splice(segments).embeds.sum().backward()
    assert embeds.grad is not None and embeds.grad[..., 0].tolist() == segments[1].mask.float().tolist()


def test_an_empty_segment_adds_nothing() -> None:
    prompt, speech, _ = example()
    empty = Segment(torch.zeros(3, 0, 1), torch.zeros(3, 0, dtype=torch.bool), torch.zeros(3, 0, dtype=torch.long))
    assert torch.equal(splice([prompt, empty, speech]).embeds, splice([prompt, speech]).embeds)


def test_a_side_is_left_or_right() -> None:
    with pytest.raises(ValueError, match="padding_side must be left or right, got 'middle'"):
        splice(example(), "middle")
