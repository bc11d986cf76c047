"""Training and learning curves: which lines are drawn, and that they are distinguishable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from harmonifuse_espnet.evaluation.plots import Curves, draw_learning_curves, draw_training_curves

OUT = Path("unused.png")


def run(*tags: str, value: float = 0.5) -> Curves:
    """A run whose statistics fall from 2 to 1 times ``value`` in validation, and are 0 in training."""
    return {"train": dict.fromkeys(tags, {10: 0.0}), "valid": {tag: {10: 2 * value, 20: value} for tag in tags}}


BOTH = ("loss_asr", "loss_ser", "loss_ctc_asr", "acc_asr", "acc_ser", "loss")


def test_a_panel_for_each_task_and_recorded_statistic(drawn: list[Figure]) -> None:
    variants = {"ours": [run(*BOTH)], "ser only": [run("loss_ser", "acc_ser")]}
    draw_learning_curves(variants, "ours", "title", OUT)
    shown = {axes.get_title(): len(axes.lines) for axes in drawn[0].axes if axes.axison}
    assert shown == {
        "asr: cross entropy": 1,
        "asr: CTC loss": 1,
        "asr: token accuracy": 1,
        "ser: cross entropy": 2,
        "ser: token accuracy": 2,
    }


def test_learning_curves_are_validation_values_in_the_order_of_steps(drawn: list[Figure]) -> None:
    curves = {"train": {"acc_asr": {1: 0.9}}, "valid": {"acc_asr": {20: 0.7, 10: 0.5, 30: 0.8}}}
    draw_learning_curves({"ours": [curves]}, "ours", "title", OUT)
    assert [line.get_xydata().tolist() for line in drawn[0].axes[0].lines] == [[[10, 0.5], [20, 0.7], [30, 0.8]]]


def test_seeds_share_a_style_variants_do_not_and_the_reference_is_black_on_top(drawn: list[Figure]) -> None:
    names = ["before", "ours", *(f"variant {number}" for number in range(30))]
    draw_learning_curves({name: [run("acc_asr")] * 2 for name in names}, "ours", "title", OUT)
    styles = [(to_hex(line.get_color()), line.get_linestyle()) for line in drawn[0].axes[0].lines]
    assert styles[::2] == styles[1::2] and len(set(styles)) == 32
    ours = drawn[0].axes[0].lines[2]
    assert styles[2] == ("#000000", "-") and "#000000" not in [color for color, _ in styles[:2] + styles[4:]]
    assert all(line.get_zorder() < ours.get_zorder() for line in drawn[0].axes[0].lines[4:])


def test_the_legend_of_21_variants_is_complete_and_hides_no_curve(
    drawn: list[Figure], inside: Callable[[Figure], bool]
) -> None:
    names = [f"interleaving_proportional_{number}" for number in range(21)]
    draw_learning_curves({name: [run("acc_ser", "loss_ser")] for name in names}, names[5], "title", OUT)
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in drawn[0].axes)
    assert inside(drawn[0])


@pytest.mark.parametrize("value", [0.4, 0.9, 3.0, 40.0])
def test_a_nearly_constant_loss_has_ticks(drawn: list[Figure], value: float) -> None:
    draw_learning_curves({"ours": [run("acc_asr", "loss_asr", value=value)]}, "ours", "title", OUT)
    axes = drawn[0].axes[0]
    lowest, highest = axes.get_ylim()
    assert axes.get_yscale() == "log" and 3 <= sum(lowest <= tick <= highest for tick in axes.get_yticks()) <= 8


def test_curves_of_no_task_are_an_error() -> None:
    with pytest.raises(ValueError, match="a.png: no curves to draw; none of naive, ours has acc_<task>"):
        draw_learning_curves({"naive": [run("loss")], "ours": []}, "ours", "title", Path("a.png"))
    with pytest.raises(ValueError, match="no curves to draw; the TensorBoard log has loss, expected acc_<task>"):
        draw_training_curves(run("loss"), "title", Path("a.png"))
