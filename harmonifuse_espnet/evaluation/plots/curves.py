"""Training curves of one experiment, and learning curves of several variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.evaluation.plots.png import write_png

# statistic, title, label of the vertical axis
PANELS = (
    ("loss", "cross entropy", "nats per target token (log scale)"),
    ("loss_ctc", "CTC loss", "nats per target token (log scale)"),
    ("acc", "token accuracy", "share of the target tokens"),
)
TICKS_WITHIN_DECADE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # ticks of an axis that spans less than a decade
SPLITS = (("train", "--"), ("valid", "-"))

Curve = Mapping[int, float]  # training step -> value
Curves = Mapping[str, Mapping[str, Curve]]  # train, valid -> statistic -> curve


def draw_training_curves(curves: Curves, title: str, path: Path) -> None:
    """Draw loss, CTC loss and token accuracy over training steps.

    Each task has a colour; training is dashed, validation is solid.

    Raises:
        InputError: if the curves have no statistic of a task, such as ``acc_<task>``.
    """
    tasks = _tasks(curves)
    panels = [panel for panel in PANELS if any(f"{panel[0]}_{task}" in curves["valid"] for task in tasks)]
    if not panels:
        known = ", ".join(curves["valid"]) or "no statistics"
        raise InputError(f"{path}: no curves to draw; the TensorBoard log has {known}, expected acc_<task>")
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    figure.suptitle(title)
    for axes, (name, heading, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (color, task), (split, style) in product(enumerate(tasks), SPLITS):
            curve = curves[split].get(f"{name}_{task}", {})
            _plot(axes, curve, linestyle=style, color=f"C{color}", label=f"{task} {split}")
        _format_axes(axes, name, heading, label)
        axes.legend(fontsize="small")
    write_png(figure, path)


def draw_learning_curves(curves: Mapping[str, Sequence[Curves]], reference: str, title: str, path: Path) -> None:
    """Draw validation curves of several variants, a row of panels for each task.

    All seeds of a variant share a line style.

    Args:
        curves: Variant -> curves of each of its seeds.
        reference: Variant that the others are compared with, drawn in black on top; need not be in ``curves``.

    Raises:
        InputError: if no variant has a statistic of a task.
    """
    runs = [run for seeds in curves.values() for run in seeds]
    tasks = sorted({task for run in runs for task in _tasks(run)})
    if not tasks:
        raise InputError(f"{path}: no curves to draw; none of {', '.join(curves) or 'no variants'} has acc_<task>")
    panels = [panel for panel in PANELS if any(f"{panel[0]}_{task}" in run["valid"] for run in runs for task in tasks)]
    size = 4.4 * len(panels) + 2.6, max(3.4 * len(tasks), 1.2 + 0.2 * len(curves))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(tasks), len(panels), squeeze=False)
    styles = _line_styles(list(curves), reference)
    for (row, task), (column, (name, heading, label)) in product(enumerate(tasks), enumerate(panels)):
        axes, tag = grid[row, column], f"{name}_{task}"
        for variant, seeds in curves.items():
            for run in seeds:
                _plot(axes, run["valid"].get(tag, {}), **styles[variant])
        if axes.lines:
            _format_axes(axes, name, f"{task}: {heading}", label)
        else:
            axes.set_axis_off()
    figure.legend([Line2D([], [], **style) for style in styles.values()], list(styles), loc="outside right upper")
    write_png(figure, path)


def _line_styles(variants: Sequence[str], reference: str) -> dict[str, dict[str, Any]]:
    """Return a line style for each variant: 20 colours, solid, dashed or dotted; the reference is black and on top."""
    strong_first = sorted(range(20), key=lambda number: number % 2)  # tab20 alternates strong and pale colours
    colors = [colormaps["tab20"](number) for number in strong_first]
    free = product(("-", "--", ":"), colors)
    styles: dict[str, dict[str, Any]] = {}
    for variant in variants:
        if variant == reference:
            styles[variant] = {"color": "black", "linewidth": 2.0, "zorder": 3}
        else:
            style, color = next(free)
            styles[variant] = {"linestyle": style, "color": color, "linewidth": 1.2}
    return styles


def _tasks(curves: Curves) -> list[str]:
    return sorted(tag.removeprefix("acc_") for tag in curves["valid"] if tag.startswith("acc_"))


def _plot(axes: Axes, curve: Curve, **style: Any) -> None:
    """Plot a curve; a curve of fewer than three points also has markers, since its line may be invisible."""
    if curve:
        steps, values = zip(*sorted(curve.items()), strict=True)
        axes.plot(steps, values, marker="o" if len(curve) < 3 else None, **style)


def _format_axes(axes: Axes, name: str, heading: str, label: str) -> None:
    axes.set(title=heading, xlabel="training step", ylabel=label)
    axes.grid(alpha=0.3)
    if name.startswith("loss"):
        axes.set_yscale("log")
        lowest, highest = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest > 8 * lowest else TICKS_WITHIN_DECADE))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
