"""RESULTS.md in ESPnet's form, made from the ``score.json`` files of one or more experiments."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from harmonifuse_espnet import __version__
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import pretrained_by, training_time
from harmonifuse_espnet.evaluation.markdown import link, section, table

# Results are made from the code, so rewriting them does not change it.
GENERATED = (":(top,exclude,glob)**/RESULTS.md", ":(top,exclude,glob)**/images/*.png")
MEASURES = {"wer": "WER", "cer": "CER", "wa": "WA", "ua": "UA", "macro_f1": "macro F1"}  # all in percent
ERROR_HEADER = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")


@dataclass(frozen=True)
class Scored:
    """The scores of one test set, decoded in one way.

    Attributes:
        decode: The name of the way, ``decode_<name>``.
        test_set: The test set's name.
        tasks: Task -> its scores, as in ``score.json``.
        selection: Task -> ``layer_weights`` and ``fusion_weights``, as in ``selection.json``; empty without that file.
    """

    decode: str
    test_set: str
    tasks: Mapping[str, Any]
    selection: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``decode_<name>/<test_set>``."""
        return f"{self.decode}/{self.test_set}"


def read_scores(exp_dir: Path) -> list[Scored]:
    """Everything that was scored in an experiment, sorted by name.

    Raises:
        FileNotFoundError: if nothing was scored there.
        ValueError: if a file is not what ``score`` and ``decode`` write.
    """
    files = sorted(exp_dir.glob("decode_*/*/score.json"))
    if not files:
        raise MissingFileError(f"{exp_dir}: no decode_*/<test_set>/score.json in it; run stages 7 and 8 first")
    scored = []
    for path in files:
        selection = path.with_name("selection.json")
        weights = _read_json(selection, "tasks") if selection.is_file() else {}
        scored.append(Scored(path.parent.parent.name, path.parent.name, _read_json(path, "tasks"), weights))
    return scored


def environment(date: datetime) -> str:
    """The section that says when, with what and on what the results were made."""
    commit, committed = git_commit(Path(__file__).parent)
    lines = [
        f"- date: `{date.astimezone():%a %b %d %H:%M:%S %Z %Y}`",
        f"- python version: `{platform.python_version()}`",
        *(f"- {name} version: `{installed(name)}`" for name in ("espnet", "torch", "transformers")),
        f"- harmonifuse_espnet version: `{__version__}`",
        f"- Git hash: `{commit}`",
        f"  - Commit date: `{committed}`",
        f"- hardware: {hardware()}",
    ]
    return "\n".join(["## Environments", *lines])


def experiment(exp_dir: Path, scored: Sequence[Scored], out_dir: Path, train_config: Path | None) -> str:
    """The section of one experiment: how it was trained, and its tables; links are relative to ``out_dir``."""
    title = Path(os.path.relpath(exp_dir, out_dir)).as_posix()
    parts = [f"## {title}", "\n".join(_training(exp_dir, title, out_dir, train_config))]
    text = [(f"{one.name} ({task}, {kind})", score) for one, task, kind, score in _scores(scored, "text")]
    if text:
        parts.append(section("WER", ERROR_HEADER, [_error_row(*row, "words", "") for row in text]))
        parts.append(section("CER", ERROR_HEADER, [_error_row(*row, "characters", "char_") for row in text]))
    labelled = list(_scores(scored, "label"))
    for task in sorted({task for _, task, _, _ in labelled}):
        rows = [(one.name, score) for one, name, _, score in labelled if name == task]
        parts += [_label_section(task, rows), *(_confusion_section(f"{name} ({task})", score) for name, score in rows)]
    return "\n\n".join(parts)


def mean_of_folds(folds: Sequence[Sequence[Scored]]) -> str:
    """The section of a cross-validation: mean and sample standard deviation over the folds, by test set.

    A fold's test set is another one each time; it has the same name in all of them.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for scored in folds:
        for kind, measures in (("text", ("wer", "cer")), ("label", ("wa", "ua", "macro_f1"))):
            for one, task, answered, score in _scores(scored, kind):
                for measure in measures:
                    name = f"{one.name} ({task}, {answered})" if kind == "text" else f"{one.name} ({task})"
                    values.setdefault((name, measure), []).append(score[measure])
    rows = [
        [
            name,
            MEASURES[measure],
            f"{mean(found):.1f}",
            f"{stdev(found):.1f}" if len(found) > 1 else "-",
            str(len(found)),
        ]
        for (name, measure), found in values.items()
    ]
    header = ("dataset", "measure", "mean", "sd", "folds")
    return f"## Mean of {len(folds)} folds\n\n{table(header, rows)}"


def figure_links(pictures: Iterable[tuple[str, Path]], out_dir: Path) -> str:
    """Markdown that shows the pictures, each a (caption, file)."""
    return "\n\n".join(["### Pictures", *(f"!{link(path, out_dir, caption)}" for caption, path in pictures)])


def git_commit(folder: Path) -> tuple[str, str]:
    """Commit and commit date of the repository that ``folder`` is in; says so where there are uncommitted changes.

    Untracked files and generated results do not count as changes.
    """

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True).stdout

    try:
        commit, committed = git("log", "-1", "--format=%H%n%cd").splitlines()
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *GENERATED).strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "none (not a git commit)", "none"
    return commit + (" with uncommitted changes" if dirty else ""), committed


def installed(package: str) -> str:
    """The installed version of a package, found without importing it."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def hardware() -> str:
    """The CPU's model, the cores that this process may use, and the GPU's name, or none."""
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text() if cpu.is_file() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = ""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = ", ".join(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")).strip(
            ", "
        )
    return f"CPU `{(models or [platform.machine()])[0]}`, {cores} cores; GPU `{gpus or 'none'}`"


def _training(exp_dir: Path, title: str, out_dir: Path, train_config: Path | None) -> Iterator[str]:
    if train_config:
        yield f"- training config: {link(train_config, out_dir)}, in full `{title}/config.yaml`"
    else:
        yield f"- training config: `{title}/config.yaml`"
    for path in sorted(exp_dir.glob("decode_*/*/selection.json"))[:1]:
        total, trained = (_read_json(path, key) for key in ("parameters", "trained_parameters"))
        yield f"- parameters: {total:,}, trained {trained:,}"
    phases = {"training": exp_dir, **{f"pre-training, `{folder.name}`": folder for folder in pretrained_by(exp_dir)}}
    for phase, folder in phases.items():
        checkpoint = folder / "checkpoint.pth"
        if checkpoint.is_file():
            seconds, steps = training_time(checkpoint)
            yield f"- {phase}: {seconds / 60:.1f} minutes, {steps:,} steps, validation included"


def _scores(scored: Iterable[Scored], answer: str) -> Iterator[tuple[Scored, str, str, Mapping[str, Any]]]:
    for one in scored:
        for task, entry in one.tasks.items():
            if entry["answer"] == answer:
                for kind, score in entry["scores"].items():
                    yield one, task, kind, score | {"utterances": entry["utterances"]}


def _error_row(name: str, score: Mapping[str, Any], unit: str, prefix: str) -> list[str]:
    total = score[unit]
    wrong = [score[f"{prefix}{kind}"] for kind in ("substitutions", "deletions", "insertions")]
    counts = [total - wrong[0] - wrong[1], *wrong, sum(wrong)]
    return [
        name,
        str(score["utterances"]),
        str(total),
        *(f"{100 * n / total:.1f}" for n in counts),
        f"{score['ser']:.1f}",
    ]


def _label_section(task: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    labels = list(dict.fromkeys(label for _, score in rows for label in score["labels"]))
    cells = [
        [f"{name} ({task})", str(score["utterances"])]
        + [f"{score[key]:.1f}" for key in ("wa", "ua", "macro_f1")]
        + ["-" if score["recall"].get(label) is None else f"{score['recall'][label]:.1f}" for label in labels]
        for name, score in rows
    ]
    return section(
        task.upper(), ["dataset", "Snt", "WA", "UA", "macro F1", *(f"recall {label}" for label in labels)], cells
    )


def _confusion_section(name: str, score: Mapping[str, Any]) -> str:
    labels = score["labels"]
    cells = [[f"**{label}**", *map(str, counts)] for label, counts in zip(labels, score["confusion"], strict=True)]
    return f"Confusion matrix of {name}:\n\n" + table(["reference \\ answer", *labels], cells)


def _read_json(path: Path, key: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not JSON with '{key}' in it ({error}); run the stage that makes it again") from error
