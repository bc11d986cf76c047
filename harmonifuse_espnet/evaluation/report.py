"""Sections of RESULTS.md in ESPnet's format: training, tables of scores, mean of folds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from harmonifuse_espnet.common.experiment import Experiment, training_seconds
from harmonifuse_espnet.evaluation.markdown import link, section, table
from harmonifuse_espnet.evaluation.scores import ScoredSet

METRICS = {"wer": "WER", "cer": "CER", "wa": "WA", "ua": "UA", "macro_f1": "macro F1"}  # all in percent
METRICS_OF = {"text": ("wer", "cer"), "label": ("wa", "ua", "macro_f1")}
LEAK_UNITS = {"speakers": "speakers", "sentences": "sentences", "utterances": "utterance ids"}
ERROR_HEADER = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")


def title(command: str) -> str:
    """Return the heading of RESULTS.md; ``command`` is the module that writes it."""
    return f"# RESULTS\n\nWritten by `harmonifuse_espnet.bin.{command}`; do not edit."


def experiment_section(exp_dir: Path, scored: Sequence[ScoredSet], out_dir: Path, train_config: Path | None) -> str:
    """Return the section of an experiment: training and tables of scores. Links are relative to ``out_dir``."""
    name = Path(os.path.relpath(exp_dir, out_dir)).as_posix()
    parts = [f"## {name}", "\n".join(_training(exp_dir, name, out_dir, train_config))]
    text = [(f"{each.name} ({task}, {kind})", score) for each, task, kind, score in _scores(scored, "text")]
    if text:
        parts.append(section("WER", ERROR_HEADER, [_error_row(*row, "words", "") for row in text]))
        parts.append(section("CER", ERROR_HEADER, [_error_row(*row, "characters", "char_") for row in text]))
        parts += _degenerate_section(text)
    labelled = list(_scores(scored, "label"))
    for task in sorted({task for _, task, _, _ in labelled}):
        rows = [(each.name, score) for each, other, _, score in labelled if other == task]
        parts += [_label_section(task, rows), *(_confusion_table(f"{name} ({task})", score) for name, score in rows)]
    return "\n\n".join([*parts, *_leak_section(scored)])


def mean_of_folds(folds: Sequence[Sequence[ScoredSet]]) -> str:
    """Return the section of a cross-validation: mean and sample standard deviation over the folds, by test set.

    The test set of each fold is different, but has the same name.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for scored in folds:
        for answer, metrics in METRICS_OF.items():
            for each, task, kind, score in _scores(scored, answer):
                name = f"{each.name} ({task}, {kind})" if answer == "text" else f"{each.name} ({task})"
                for metric in metrics:
                    values.setdefault((name, metric), []).append(score[metric])
    rows = [
        [name, METRICS[metric], f"{mean(found):.1f}", f"{stdev(found):.1f}" if len(found) > 1 else "-", str(len(found))]
        for (name, metric), found in values.items()
    ]
    header = ("dataset", "metric", "mean", "sd", "folds")
    return f"## Mean of {len(folds)} folds\n\n{table(header, rows)}"


def figure_links(figures: Iterable[tuple[str, Path]], out_dir: Path) -> str:
    """Return the section that shows figures, each a (caption, file)."""
    return "\n\n".join(["### Figures", *(f"!{link(path, out_dir, caption)}" for caption, path in figures)])


def _training(exp_dir: Path, name: str, out_dir: Path, train_config: Path | None) -> Iterator[str]:
    experiment = Experiment(exp_dir)
    full = f"`{name}/{experiment.config.name}`"
    yield f"- training config: {f'{link(train_config, out_dir)}, in full {full}' if train_config else full}"
    if counts := experiment.parameter_counts():
        yield f"- parameters: {counts['parameters']:,}, trained {counts['trained_parameters']:,}"
    phases = {"training": experiment, **{f"pre-training, `{each.dir.name}`": each for each in experiment.pretraining()}}
    for phase, each in phases.items():
        if each.checkpoint.is_file():
            epochs = each.epochs()
            minutes, steps = training_seconds(epochs) / 60, max(epoch["train"]["total_count"] for epoch in epochs)
            yield f"- {phase}: {minutes:.1f} minutes, {steps:,} steps, validation included"


def _scores(scored: Iterable[ScoredSet], answer: str) -> Iterator[tuple[ScoredSet, str, str, Mapping[str, Any]]]:
    """Yield test set, task, kind of hypothesis and score of the tasks with this ``answer``, ``text`` or ``label``."""
    for each in scored:
        for task, entry in each.tasks.items():
            if entry["answer"] == answer:
                for kind, score in entry["scores"].items():
                    yield each, task, kind, score | {"utterances": entry["utterances"]}


def _error_row(name: str, score: Mapping[str, Any], unit: str, prefix: str) -> list[str]:
    total = score[unit]
    errors = [score[f"{prefix}{kind}"] for kind in ("substitutions", "deletions", "insertions")]
    counts = [total - errors[0] - errors[1], *errors, sum(errors)]
    rates = [f"{100 * count / total:.1f}" for count in counts]
    return [name, str(score["utterances"]), str(total), *rates, f"{score['sentence_error_rate']:.1f}"]


def _degenerate_section(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the table of degenerate hypotheses; scores of early versions have no counts of them."""
    cells = [
        [
            name,
            str(score["utterances"]),
            *(str(score["degenerate"][kind]) for kind in ("empty", "looping", "over_long")),
        ]
        for name, score in rows
        if "degenerate" in score
    ]
    if cells:
        yield section("Degenerate hypotheses", ("dataset", "Snt", "empty", "looping", "over-long"), cells)


def _leak_section(scored: Iterable[ScoredSet]) -> Iterator[str]:
    """Yield the table of what the test sets share with the training set, if it was checked for any of them."""
    rows = [
        (each.folder.test_set, *(_leak_cell(each.leaks[unit]) for unit in LEAK_UNITS))
        for each in scored
        if each.leaks is not None
    ]
    if rows:
        yield section("Shared with the training set", ("dataset", *LEAK_UNITS.values()), dict.fromkeys(rows))


def _leak_cell(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['shared']} of {found['total']}"


def _label_section(task: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    labels = list(dict.fromkeys(label for _, score in rows for label in score["labels"]))
    cells = [
        [f"{name} ({task})", str(score["utterances"])]
        + [f"{score[metric]:.1f}" for metric in METRICS_OF["label"]]
        + ["-" if score["recall"].get(label) is None else f"{score['recall'][label]:.1f}" for label in labels]
        for name, score in rows
    ]
    header = ["dataset", "Snt", "WA", "UA", "macro F1", *(f"recall {label}" for label in labels)]
    return section(task.upper(), header, cells)


def _confusion_table(name: str, score: Mapping[str, Any]) -> str:
    labels = score["labels"]
    cells = [[f"**{label}**", *map(str, counts)] for label, counts in zip(labels, score["confusion"], strict=True)]
    return f"Confusion matrix of {name}:\n\n" + table(["reference \\ prediction", *labels], cells)
