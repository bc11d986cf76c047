"""Pictures beside the results: training curves, confusion matrices, and which layers each task listens to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

# statistic, title, label of the vertical axis
PANELS = (
    ("loss", "answer", "cross entropy (nats a token, log scale)"),
    ("loss_ctc", "CTC head", "CTC loss (nats a token, log scale)"),
    ("acc", "answer's tokens", "share predicted rightly"),
)
SPLITS = (("train", "--"), ("valid", "-"))

Curve = dict[int, float]  # training step -> value
Curves = Mapping[str, Mapping[str, Curve]]  # train, valid -> statistic -> curve


def read_curves(tensorboard_dir: Path) -> dict[str, dict[str, Curve]]:
    """ESPnet's statistics at the end of every epoch: ``train`` and ``valid`` -> statistic -> curve.

    ESPnet's training log also has means over ``log_interval`` steps; only the steps at which ``valid`` has a value, the
    ends of epochs, are kept. Where a step was written twice (a resumed run) the last value counts; NaN is left out.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: dict[str, dict[str, Curve]] = {}
    for split, _ in SPLITS:
        events = EventAccumulator(str(tensorboard_dir / split), size_guidance={"scalars": 0})
        events.Reload()
        curves[split] = {
            tag: {event.step: event.value for event in events.Scalars(tag) if math.isfinite(event.value)}
            for tag in sorted(events.Tags()["scalars"])
        }
    ends = {step for curve in curves["valid"].values() for step in curve}
    curves["train"] = {tag: {n: v for n, v in curve.items() if n in ends} for tag, curve in curves["train"].items()}
    return curves


def draw_training_curves(curves: Mapping[str, Mapping[str, Curve]], title: str, path: Path) -> None:
    """Loss, CTC loss and accuracy over training steps; a colour a task, dashed in training, solid in validation.

    Raises:
        ValueError: if there is no statistic of a task, ``acc_<task>`` and the like.
    """
    tasks = sorted(tag.removeprefix("acc_") for tag in curves["valid"] if tag.startswith("acc_"))
    panels = [panel for panel in PANELS if any(f"{panel[0]}_{task}" in curves["valid"] for task in tasks)]
    if not panels:
        raise ValueError(f"{path}: no curve to draw; the TensorBoard log has {', '.join(curves['valid']) or 'nothing'}")
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    figure.suptitle(title)
    for axes, (name, heading, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for color, task in enumerate(tasks):
            for split, style in SPLITS:
                curve = sorted(curves[split].get(f"{name}_{task}", {}).items())
                if curve:
                    steps, values = zip(*curve, strict=True)
                    marker = "o" if len(curve) < 3 else None
                    axes.plot(steps, values, style, marker=marker, color=f"C{color}", label=f"{task} {split}")
        axes.set(title=heading, xlabel="training step", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        if name.startswith("loss"):
            _use_log_scale(axes)
    _save(figure, path)


def draw_learning_curves(curves: Mapping[str, Sequence[Curves]], reference: str, title: str, path: Path) -> None:
    """Validation accuracy of variants over training steps, a panel a task; a colour a variant, the reference black.

    Raises:
        ValueError: if no variant has the accuracy of a task.
    """
    tags = sorted({tag for runs in curves.values() for run in runs for tag in run["valid"] if tag.startswith("acc_")})
    if not tags:
        raise ValueError(f"{path}: no curve to draw; none of {', '.join(curves) or 'no variants'} has acc_<task>")
    figure = Figure(figsize=(5.0 * len(tags) + 2.0, 4.0), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(tags), squeeze=False)[0]
    for axes, tag in zip(panels, tags, strict=True):
        for index, (name, runs) in enumerate(curves.items()):
            for label, run in zip([name, *[None] * len(runs)], runs, strict=False):
                steps, values = zip(*sorted(run["valid"].get(tag, {0: math.nan}).items()), strict=True)
                axes.plot(steps, values, color="black" if name == reference else f"C{index}", label=label)
        axes.set(title=tag.removeprefix("acc_"), xlabel="training step", ylabel="share predicted rightly (validation)")
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def draw_confusion(labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str, path: Path) -> None:
    """A confusion matrix: rows are the reference; the colour is the share of the row, the number the count."""
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    size = 2.2 + 0.75 * len(labels)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, counts in enumerate(confusion):
        for column, count in enumerate(counts):
            share = shares[row][column]
            text = f"{count}\n{100 * share:.0f} %"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    _name_ticks(axes, labels, labels)
    axes.set(title=title, xlabel="answer", ylabel="reference")
    figure.colorbar(picture, ax=axes, label="share of the reference class", shrink=0.8)
    _save(figure, path)


def draw_layer_weights(weights: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> None:
    """Heat maps of the weights over layers, a row a task.

    Args:
        weights: What is weighted (``speech encoder``, ``language model``) -> task -> weight of each layer.
        title: Printed on top.
        path: The PNG to write.
    """
    tasks, widest = (
        [len(rows) for rows in weights.values()],
        max(len(w) for rows in weights.values() for w in rows.values()),
    )
    height = 1.2 + sum(1.1 + 0.5 * count for count in tasks)
    figure = Figure(figsize=(max(6.0, 2.8 + 0.5 * widest), height), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(len(weights), 1, squeeze=False, height_ratios=tasks)[:, 0]
    for axes, (name, rows) in zip(grid, weights.items(), strict=True):
        values = list(rows.values())
        picture = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=max(map(max, values)), aspect="auto")
        for row, layers in enumerate(values):
            for column, weight in enumerate(layers):
                color = "white" if weight > 0.5 * max(map(max, values)) else "black"
                axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=color, fontsize="small")
        _name_ticks(axes, [str(layer) for layer in range(1, len(values[0]) + 1)], list(rows))
        axes.set(title=name, xlabel="layer", ylabel="task")
        figure.colorbar(picture, ax=axes, label="weight")
    _save(figure, path)


def _use_log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _name_ticks(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
