"""Pictures of training: one experiment's curves, and those of many variants side by side."""

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
    ("loss", "answer", "cross entropy (nats a token, log scale)"),
    ("loss_ctc", "CTC head", "CTC loss (nats a token, log scale)"),
    ("acc", "answer's tokens", "share predicted rightly"),
)
CLOSE_TICKS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # in each decade, where an axis spans less than one
SPLITS = (("train", "--"), ("valid", "-"))

Curve = Mapping[int, float]  # training step -> value
Curves = Mapping[str, Mapping[str, Curve]]  # train, valid -> statistic -> curve


def draw_training_curves(curves: Curves, title: str, path: Path) -> None:
    """Loss, CTC loss and accuracy over training steps; a colour a task, dashed in training, solid in validation.

    Raises:
        ValueError: if there is no statistic of a task, ``acc_<task>`` and the like.
    """
    tasks = _tasks(curves)
    panels = [panel for panel in PANELS if any(f"{panel[0]}_{task}" in curves["valid"] for task in tasks)]
    if not panels:
        raise InputError(f"{path}: no curve to draw; the TensorBoard log has {', '.join(curves['valid']) or 'nothing'}")
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    figure.suptitle(title)
    for axes, (name, heading, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (color, task), (split, style) in product(enumerate(tasks), SPLITS):
            curve = curves[split].get(f"{name}_{task}", {})
            _plot(axes, curve, linestyle=style, color=f"C{color}", label=f"{task} {split}")
        _finish(axes, name, heading, label)
        axes.legend(fontsize="small")
    write_png(figure, path)


def draw_learning_curves(curves: Mapping[str, Sequence[Curves]], reference: str, title: str, path: Path) -> None:
    """Validation curves of many variants, a row of panels a task; a colour a variant, all its seeds in the same.

    Args:
        curves: Variant -> the curves of each of its seeds.
        reference: The variant that the others are held against; drawn in black, over them. Need not be there.
        title: Printed on top.
        path: The PNG to write.

    Raises:
        ValueError: if no variant has a statistic of a task.
    """
    runs = [run for seeds in curves.values() for run in seeds]
    tasks = sorted({task for run in runs for task in _tasks(run)})
    if not tasks:
        raise InputError(f"{path}: no curve to draw; none of {', '.join(curves) or 'no variants'} has acc_<task>")
    panels = [panel for panel in PANELS if any(f"{panel[0]}_{task}" in run["valid"] for run in runs for task in tasks)]
    figure = Figure(
        figsize=(4.4 * len(panels) + 2.6, max(3.4 * len(tasks), 1.2 + 0.2 * len(curves))), layout="constrained"
    )
    figure.suptitle(title)
    grid = figure.subplots(len(tasks), len(panels), squeeze=False)
    looks = _looks(list(curves), reference)
    for (row, task), (column, (name, heading, label)) in product(enumerate(tasks), enumerate(panels)):
        axes, tag = grid[row, column], f"{name}_{task}"
        for variant, seeds in curves.items():
            for run in seeds:
                _plot(axes, run["valid"].get(tag, {}), **looks[variant])
        if axes.lines:
            _finish(axes, name, f"{task}: {heading}", label)
        else:
            axes.set_axis_off()
    figure.legend([Line2D([], [], **look) for look in looks.values()], list(looks), loc="outside right upper")
    write_png(figure, path)


def _looks(variants: Sequence[str], reference: str) -> dict[str, dict[str, Any]]:
    """Twenty colours, and again in other dashes (60 in all); the reference black and thick, on top."""
    strong_first = sorted(range(20), key=lambda number: number % 2)  # each has its pale shade beside it
    colors = [colormaps["tab20"](number) for number in strong_first]
    free = product(("-", "--", ":"), colors)
    looks: dict[str, dict[str, Any]] = {}
    for variant in variants:
        if variant == reference:
            looks[variant] = {"color": "black", "linewidth": 2.0, "zorder": 3}
        else:
            style, color = next(free)
            looks[variant] = {"linestyle": style, "color": color, "linewidth": 1.2}
    return looks


def _tasks(curves: Curves) -> list[str]:
    return sorted(tag.removeprefix("acc_") for tag in curves["valid"] if tag.startswith("acc_"))


def _plot(axes: Axes, curve: Curve, **look: Any) -> None:
    """One line; points too where a line would not be seen."""
    if curve:
        steps, values = zip(*sorted(curve.items()), strict=True)
        axes.plot(steps, values, marker="o" if len(curve) < 3 else None, **look)


def _finish(axes: Axes, name: str, heading: str, label: str) -> None:
    axes.set(title=heading, xlabel="training step", ylabel=label)
    axes.grid(alpha=0.3)
    if name.startswith("loss"):
        axes.set_yscale("log")
        lowest, highest = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest > 8 * lowest else CLOSE_TICKS))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
