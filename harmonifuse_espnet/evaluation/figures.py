"""Figures of one experiment, and its section in RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.experiment import Experiment
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.evaluation import plots
from harmonifuse_espnet.evaluation.report import experiment_section, figure_links
from harmonifuse_espnet.evaluation.scores import ScoredSet
from harmonifuse_espnet.inference.gate_trace import GateTrace, read_gates

LAYERS = (("speech encoder", "layer_weights"), ("language model", "fusion_weights"))
WEIGHT_TOLERANCE = 0.005  # smaller differences are not visible: the figure shows two decimals

CaptionedFigures = Iterator[tuple[str, Path]]  # caption, PNG file


def experiment_sections(
    exp_dir: Path, scored: Sequence[ScoredSet], out: Path, train_config: Path | None, prefix: str
) -> list[str]:
    """Return the sections of an experiment and of its figures, which are copied to ``images/<prefix>_*``."""
    figures = [(caption, _copy_to_images(path, prefix, out)) for caption, path in draw_figures(exp_dir, scored)]
    figure_section = [figure_links(figures, out.parent)] if figures else []
    return [experiment_section(exp_dir, scored, out.parent, train_config), *figure_section]


def draw_figures(exp_dir: Path, scored: Sequence[ScoredSet]) -> list[tuple[str, Path]]:
    """Draw the figures of an experiment into its ``images`` and TensorBoard folders; return captions and files."""
    experiment = Experiment(exp_dir)
    figures = [
        *_training_curves(experiment),
        *_confusions(experiment, scored),
        *_weights_and_gates(experiment, scored),
    ]
    if experiment.tensorboard.is_dir():
        plots.replace_figures(experiment.tensorboard, figures)
    return figures


def layer_weights(scored: Sequence[ScoredSet]) -> dict[str, dict[str, list[float]]]:
    """Return ``speech encoder`` and ``language model`` -> row -> layer weights.

    A task has a row for each prompt, or one row if all prompts have the same weights; test sets whose weights differ
    have separate rows.
    """
    weights: dict[str, dict[str, list[float]]] = {}
    for owner, key in LAYERS:
        rows: dict[str, list[float]] = {}
        for each in scored:
            for task, entry in each.weights.items():
                for row, layers in _rows_by_prompt(task, entry, key).items():
                    if rows.get(row) != layers:
                        rows[row if row not in rows else f"{row}, {each.folder.test_set}"] = layers
        weights |= {owner: rows} if rows else {}
    return weights


def component_gates(scored: Sequence[ScoredSet]) -> list[GateTrace]:
    """Return one gate trace for each task, from the first test set that has the task."""
    traces: dict[str, GateTrace] = {}
    for each in scored:
        for trace in read_gates(each.folder.gates):
            traces.setdefault(trace.task, trace)
    return list(traces.values())


def _training_curves(experiment: Experiment) -> CaptionedFigures:
    files = {experiment: "training_curves.png"}
    files |= {each: f"training_curves_{each.dir.name}.png" for each in experiment.pretraining()}
    for each, name in files.items():
        if each.tensorboard.is_dir():
            tag, path = each.dir.resolve().name, experiment.images / name
            plots.draw_training_curves(plots.read_curves(each.tensorboard), f"{tag}: training", path)
            yield f"training curves of {tag}", path


def _confusions(experiment: Experiment, scored: Sequence[ScoredSet]) -> CaptionedFigures:
    for each in scored:
        decode, test_set = f"decode_{each.folder.tag}", each.folder.test_set
        for task, entry in each.tasks.items():
            if entry["answer"] == "label":
                score, path = entry["scores"]["llm"], experiment.images / f"confusion_{task}_{decode}_{test_set}.png"
                plots.draw_confusion(score["labels"], score["confusion"], f"{task} on {test_set}\n{decode}", path)
                yield f"confusion matrix of {task} on {each.name}", path


def _weights_and_gates(experiment: Experiment, scored: Sequence[ScoredSet]) -> CaptionedFigures:
    name = experiment.dir.resolve().name
    for tag in sorted({each.folder.tag for each in scored}):
        decode, sets = f"decode_{tag}", [each for each in scored if each.folder.tag == tag]
        weights, gates = layer_weights(sets), component_gates(sets)
        if weights:
            path = experiment.images / f"layer_weights_{decode}.png"
            plots.draw_layer_weights(weights, f"layer weights by task and prompt\n{name}\n{decode}", path)
            yield f"layer weights by task and prompt in {decode}", path
        if gates:
            path = experiment.images / f"gate_{decode}.png"
            plots.draw_gates(gates, f"component gate\n{name}\n{decode}", path)
            yield f"component gate over time in {decode}", path


def _rows_by_prompt(task: str, entry: Mapping[str, Any], key: str) -> dict[str, list[float]]:
    """Return the rows of one task; records of early versions have no ``wordings``."""
    first = entry.get(key)
    if not first:
        return {}
    prompts = {prompt: weights[key] for prompt, weights in entry.get("wordings", {}).items()}
    if all(abs(a - b) < WEIGHT_TOLERANCE for weights in prompts.values() for a, b in zip(weights, first, strict=True)):
        return {task: first}
    held_out = entry.get("held_out", ())
    return {
        f"{task}: {prompt}{' (held out)' if prompt in held_out else ''}": weights for prompt, weights in prompts.items()
    }


def _copy_to_images(figure: Path, prefix: str, out: Path) -> Path:
    copy = out.parent / "images" / f"{prefix}_{figure.name}"
    write_files(copy.parent, {copy.name: figure.read_bytes()})
    return copy
