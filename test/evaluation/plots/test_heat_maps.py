"""Heat maps: every number is in its cell, and no label is cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from harmonifuse_espnet.evaluation.plots import draw_confusion, draw_layer_weights

OUT = Path("unused.png")


def test_a_confusion_matrix_has_counts_and_shares_of_its_rows(drawn: list[Figure]) -> None:
    draw_confusion(["ang", "sad", "neu"], [[3, 1, 0], [0, 2, 0], [0, 0, 0]], "title", OUT)
    axes = drawn[0].axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert (cells[0, 0], cells[1, 0], cells[1, 1], cells[2, 2]) == ("3\n75 %", "1\n25 %", "2\n100 %", "0\n0 %")
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("count", [2, 9])
def test_long_labels_and_titles_are_complete_and_do_not_overlap(
    drawn: list[Figure], inside: Callable[[Figure], bool], count: int
) -> None:
    labels = [f"disappointed {number}" for number in range(count)]
    title = "gender on test_crema_d_female_speakers\ndecode_ctc0.3_beam10_penalty0.6_valid.acc.ave"
    draw_confusion(labels, [[1] * count] * count, title, OUT)
    assert inside(drawn[0])
    assert {tick.get_rotation() for tick in drawn[0].axes[0].get_xticklabels()} == {45}


def test_a_row_for_each_prompt_and_a_column_for_each_layer(
    drawn: list[Figure], inside: Callable[[Figure], bool]
) -> None:
    wordings = {f"asr: PUT WHAT THE SPEAKER SAYS INTO WORDS {n} (held out)": [0.25, 0.75] for n in range(8)}
    draw_layer_weights({"speech encoder": {"asr": [1 / 24] * 24}, "language model": wordings}, "title", OUT)
    encoder, lm = drawn[0].axes[:2]
    assert [tick.get_text() for tick in encoder.get_xticklabels()] == [str(layer) for layer in range(1, 25)]
    assert [tick.get_text() for tick in lm.get_yticklabels()] == list(wordings)
    assert lm.images[0].get_array().tolist() == list(wordings.values())
    assert {text.get_text() for text in lm.texts} == {"0.25", "0.75"} and inside(drawn[0])
