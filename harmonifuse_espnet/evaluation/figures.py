"""The section of one experiment in RESULTS.md and all of its plots, from what training and decoding left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.experiment import pretrained_by
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.evaluation import plots
from harmonifuse_espnet.evaluation.report import Scored, experiment, figure_links
from harmonifuse_espnet.inference.gate_trace import GateTrace, read_gates

LAYERS = (("speech encoder", "layer_weights"), ("language model", "fusion_weights"))
ALIKE = 0.005  # weights differ by less than the picture's two decimals show


def experiment_with_figures(
    exp_dir: Path, scored: Sequence[Scored], out: Path, train_config: Path | None, prefix: str
) -> list[str]:
    """The section of one experiment, and the one of its plots, drawn and copied to ``images/<prefix>_*``."""
    shown = [(caption, _copy_beside(path, prefix, out)) for caption, path in draw(exp_dir, scored)]
    pictures_section = [figure_links(shown, out.parent)] if shown else []
    return [experiment(exp_dir, scored, out.parent, train_config), *pictures_section]


def draw(exp_dir: Path, scored: Sequence[Scored]) -> list[tuple[str, Path]]:
    """Draw an experiment's plots into ``<exp_dir>/images`` and its TensorBoard; returns captions and files."""
    shown = list(_draw(exp_dir, scored))
    if (exp_dir / "tensorboard").is_dir():
        plots.replace_figures(exp_dir / "tensorboard", shown)
    return shown


def _draw(exp_dir: Path, scored: Sequence[Scored]) -> Iterator[tuple[str, Path]]:
    tag, images = exp_dir.resolve().name, exp_dir / "images"
    for folder, path in {
        exp_dir: images / "training_curves.png",
        **{folder: images / f"training_curves_{folder.name}.png" for folder in pretrained_by(exp_dir)},
    }.items():
        if (folder / "tensorboard").is_dir():
            name = folder.resolve().name
            plots.draw_training_curves(plots.read_curves(folder / "tensorboard"), f"{name}: training", path)
            yield f"training curves of {name}", path
    for one in scored:
        for task, entry in one.tasks.items():
            if entry["answer"] == "label":
                score, path = entry["scores"]["llm"], images / f"confusion_{task}_{one.decode}_{one.test_set}.png"
                plots.draw_confusion(
                    score["labels"], score["confusion"], f"{task} on {one.test_set}\n{one.decode}", path
                )
                yield f"confusion matrix of {task} on {one.name}", path
    for decode in sorted({one.decode for one in scored}):
        sets = [one for one in scored if one.decode == decode]
        weights, gates = layer_weights(sets), component_gates(exp_dir, sets)
        if weights:
            path = images / f"layer_weights_{decode}.png"
            plots.draw_layer_weights(weights, f"weights of the layers by task and prompt\n{tag}\n{decode}", path)
            yield f"layer weights by task and prompt in {decode}", path
        if gates:
            path = images / f"gate_{decode}.png"
            plots.draw_gates(gates, f"component gate\n{tag}\n{decode}", path)
            yield f"component gate over time in {decode}", path


def layer_weights(scored: Sequence[Scored]) -> dict[str, dict[str, list[float]]]:
    """What is weighted -> row -> weights.

    A task has a row for each wording of its prompt, or one where they weigh alike; one that weighs differently on two
    test sets has its rows for each.
    """
    weights: dict[str, dict[str, list[float]]] = {}
    for title, key in LAYERS:
        rows: dict[str, list[float]] = {}
        for one in scored:
            for task, entry in one.selection.items():
                for row, layers in wording_rows(task, entry, key).items():
                    if rows.get(row) != layers:
                        rows[row if row not in rows else f"{row}, {one.test_set}"] = layers
        weights |= {title: rows} if rows else {}
    return weights


def wording_rows(task: str, entry: Mapping[str, Any], key: str) -> dict[str, list[float]]:
    """One task's rows from its entry in ``selection.json``, which lacks ``wordings`` in older files."""
    if not entry.get(key):
        return {}
    wordings = {wording: weights[key] for wording, weights in entry.get("wordings", {}).items()}
    if all(abs(a - b) < ALIKE for weights in wordings.values() for a, b in zip(weights, entry[key], strict=True)):
        return {task: entry[key]}
    held_out = entry.get("held_out", ())
    return {
        f"{task}: {wording}{' (held out)' if wording in held_out else ''}": weights
        for wording, weights in wordings.items()
    }


def component_gates(exp_dir: Path, scored: Sequence[Scored]) -> list[GateTrace]:
    """The gate in one utterance of each task: of the first test set that has the task."""
    traces: dict[str, GateTrace] = {}
    for one in scored:
        for trace in read_gates(exp_dir / one.decode / one.test_set / "gate.json"):
            traces.setdefault(trace.task, trace)
    return list(traces.values())


def _copy_beside(picture: Path, prefix: str, out: Path) -> Path:
    copy = out.parent / "images" / f"{prefix}_{picture.name}"
    write_files(copy.parent, {copy.name: picture.read_bytes()})
    return copy
