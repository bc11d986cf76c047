"""Scoring of a decode folder: checks of its files, scores by task, and the score of each utterance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import DecodeDir
from harmonifuse_espnet.common.json_file import read_json_lines
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks
from harmonifuse_espnet.evaluation.degenerate import count_degenerate
from harmonifuse_espnet.evaluation.leaks import find_leaks, leak_lines
from harmonifuse_espnet.evaluation.metrics import TextErrors, count_errors, label_scores, matching_ids, text_scores
from harmonifuse_espnet.evaluation.references import read_references

SUM_TOLERANCE = 1e-3  # of the sum of an utterance's label probabilities

Scores = dict[str, Any]
Hypotheses = dict[str, tuple[Path, dict[str, str]]]  # kind -> file, hypothesis by utterance id


def score(
    data_dir: Path, decode_dir: Path, tasks: Tasks, train_data_dir: Path | None = None
) -> tuple[Scores, list[dict[str, Any]]]:
    """Return the scores of every task of a test set with its leak check, and the score of each utterance.

    Hypotheses of the kind ``llm`` are in ``text``, those of the kind ``ctc`` in ``ctc_text``, which may be missing.

    Args:
        data_dir: Dump folder of the test set.
        decode_dir: Decode folder of the test set.
        tasks: Tasks of the test set and of the training set.
        train_data_dir: Dump folder of the training set, for the leak check; None: no leak check.

    Raises:
        MissingFileError: if a file is missing; the message names the stage that writes it.
        InputError: if the files have different utterances, a task is unknown, a hypothesis is not one of the labels of
            its task, or label probabilities do not sum to 1 or contradict the hypothesis.
    """
    folder = DecodeDir(decode_dir)
    references = read_references(data_dir, tasks)
    if not folder.text.is_file():
        raise MissingFileError(f"{folder.text}: no such file; run stage 7, which writes it")
    leaks = find_leaks(read_references(train_data_dir, tasks), references) if train_data_dir else None
    hypotheses = _read_hypotheses(folder, references.tasks)
    scores: Scores = {}
    utterances: list[dict[str, Any]] = []
    for task in (task for task in tasks.values() if task in references.tasks.values()):
        of_task = references.targets_of(task)
        scores[task.name] = {"answer": task.answer, "utterances": len(of_task), "scores": {}}
        for kind, (path, texts) in hypotheses.items():
            if kind == "llm" or task.answer == "text":
                with _prefix_errors(path):
                    found, entries = _score_task(task, of_task, {key: texts[key] for key in of_task})
                scores[task.name]["scores"][kind] = found
                for key, entry in entries.items():
                    start = {"id": key, "speaker": references.speakers[key], "task": task.name, "kind": kind}
                    utterances.append({**start, **entry})
    total = len(references.targets)
    return {"test_set": decode_dir.resolve().name, "utterances": total, "leaks": leaks, "tasks": scores}, utterances


def check_label_probs(path: Path, utt2task: Mapping[str, SpeechTask], hypotheses: Mapping[str, str]) -> None:
    """Check ``label_probs.jsonl`` against the hypotheses.

    Args:
        path: Lines of ``{"id": ..., "probs": {label: probability}}``.
        utt2task: Task of every utterance with a label.
        hypotheses: Hypothesis of every utterance.

    Raises:
        InputError: if an utterance is missing, unknown or a duplicate, its labels are not those of its task, its
            probabilities do not sum to 1, or its hypothesis is not the most probable label.
    """
    found: set[str] = set()
    for number, entry in read_json_lines(path, "decode again"):
        with _prefix_errors(f"{path}:{number}"):
            key, probs = _parse_probs(entry)
            if key in found:
                raise InputError(f"duplicate utterance {quote(key)}; decode again")
            if key not in utt2task:
                raise InputError(f"{quote(key)} is not an utterance of a task with labels; decode again")
            found.add(key)
            _check_probs(key, probs, utt2task[key], hypotheses[key])
    missing = sorted(set(utt2task) - found)
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(utt2task)} utterances missing, first '{missing[0]}'; decode again"
        )


def summary(scores: Scores) -> Iterator[str]:
    """Yield a line for each task and kind of hypothesis, and the lines of the leak check."""
    for name, task in scores["tasks"].items():
        for kind, found in task["scores"].items():
            if task["answer"] == "text":
                counts = "{substitutions} sub, {deletions} del, {insertions} ins in {words} words".format(**found)
                line = f"WER {found['wer']:.1f} %  CER {found['cer']:.1f} %  ({counts})  "
                line += "{empty} empty, {looping} looping, {over_long} over-long".format(**found["degenerate"])
            else:
                line = f"WA {found['wa']:.1f} %  UA {found['ua']:.1f} %  macro F1 {found['macro_f1']:.1f} %"
            yield f"{scores['test_set']}  {name} ({kind})  {line}  {task['utterances']} utterances"
    yield from leak_lines(scores["test_set"], scores["leaks"])


def _read_hypotheses(folder: DecodeDir, utt2task: Mapping[str, SpeechTask]) -> Hypotheses:
    """Read the hypotheses of each kind, and check that they belong to the utterances of the test set."""
    hypotheses = {"llm": (folder.text, read_table(folder.text, allow_empty=True))}
    with _prefix_errors(folder.text):
        matching_ids(dict.fromkeys(utt2task, ""), hypotheses["llm"][1])
    if folder.ctc_text.is_file():
        hypotheses["ctc"] = folder.ctc_text, read_table(folder.ctc_text, allow_empty=True)
        with _prefix_errors(folder.ctc_text):
            with_text = {key: "" for key, task in utt2task.items() if task.answer == "text"}
            matching_ids(with_text, hypotheses["ctc"][1])
    if folder.label_probs.is_file():
        with_label = {key: task for key, task in utt2task.items() if task.answer == "label"}
        check_label_probs(folder.label_probs, with_label, hypotheses["llm"][1])
    return hypotheses


def _parse_probs(entry: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    key, probs = entry.get("id"), entry.get("probs")
    if not isinstance(key, str) or not isinstance(probs, dict) or len(entry) != 2 or not _are_numbers(probs.values()):
        raise InputError(f'expected {{"id": ..., "probs": {{label: number}}}}, got {quote(entry)}; decode again')
    return key, probs


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _check_probs(key: str, probs: Mapping[str, float], task: SpeechTask, hypothesis: str) -> None:
    if set(probs) != set(task.labels):
        raise InputError(
            f"'{key}' has the labels {', '.join(probs)}, but its task has {', '.join(task.labels)}; decode again"
        )
    total, best = sum(probs.values()), max(probs, key=lambda label: probs[label])
    if not abs(total - 1.0) <= SUM_TOLERANCE:
        raise InputError(f"the probabilities of '{key}' sum to {total:.6f}, not to 1; decode again")
    if probs.get(hypothesis, 0.0) < probs[best]:
        raise InputError(
            f"the most probable label of '{key}' is {best}, but its hypothesis is '{hypothesis}'; decode again"
        )


def _score_task(
    task: SpeechTask, references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> tuple[Scores, dict[str, Scores]]:
    """Return the scores of a task, and the score of each of its utterances by id."""
    if task.answer == "text":
        errors = count_errors(references, hypotheses)
        scores = {**text_scores(errors), "degenerate": count_degenerate(references, hypotheses)}
        return scores, {key: _utterance_errors(found) for key, found in errors.items()}
    correct = {
        key: {"label": references[key], "correct": hypotheses[key] == references[key]} for key in sorted(references)
    }
    return label_scores(references, hypotheses, list(task.labels)), correct


def _utterance_errors(errors: TextErrors) -> Scores:
    return {
        "errors": errors.words.errors,
        "words": errors.words.total,
        "char_errors": errors.characters.errors,
        "characters": errors.characters.total,
    }


@contextmanager
def _prefix_errors(where: str | Path) -> Iterator[None]:
    """Prefix the message of an :class:`InputError` in the block with its file or line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
