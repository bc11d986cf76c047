"""Heat maps: confusion matrix, and layer weights by task and prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harmonifuse_espnet.evaluation.plots.png import write_png

MAX_HORIZONTAL = 6  # characters of a column label; longer ones are rotated


def draw_confusion(labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str, path: Path) -> None:
    """Draw a confusion matrix: references in rows; colours show shares of a row, numbers show counts."""
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    size = 2.2 + 0.75 * len(labels)
    figure = Figure(figsize=(max(size + 0.8, 5.0), size), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, counts in enumerate(confusion):
        for column, count in enumerate(counts):
            share = shares[row][column]
            text = f"{count}\n{100 * share:.0f} %"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    _label_ticks(axes, labels, labels)
    axes.set(xlabel="prediction", ylabel="reference")
    figure.colorbar(image, ax=axes, label="share of the reference class", shrink=0.8)
    write_png(figure, path)


def draw_layer_weights(weights: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> None:
    """Draw heat maps of the layer weights.

    ``weights``: ``speech encoder`` or ``language model`` -> row (a task, or one of its prompts) -> layer weights.
    """
    counts = [len(rows) for rows in weights.values()]
    columns = max(len(layers) for rows in weights.values() for layers in rows.values())
    longest = max(len(row) for rows in weights.values() for row in rows)
    width, height = max(6.0, 2.4 + 0.08 * longest + 0.5 * columns), 1.2 + sum(1.1 + 0.4 * count for count in counts)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(len(weights), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axes, (name, rows) in zip(grid, weights.items(), strict=True):
        _draw_weights(figure, axes, rows)
        axes.set(title=name, xlabel="layer")
    write_png(figure, path)


def _draw_weights(figure: Figure, axes: Axes, rows: Mapping[str, Sequence[float]]) -> None:
    values = list(rows.values())
    highest = max(map(max, values))
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=highest, aspect="auto")
    for row, layers in enumerate(values):
        for column, weight in enumerate(layers):
            color = "white" if weight > 0.5 * highest else "black"
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=color, fontsize="small")
    _label_ticks(axes, [str(layer) for layer in range(1, len(values[0]) + 1)], list(rows))
    figure.colorbar(image, ax=axes, label="weight")


def _label_ticks(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    axes.set_xticks(range(len(columns)), columns)
    if max(map(len, columns)) > MAX_HORIZONTAL:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
