"""Stage 8, first half: score the answers to one test set, task by task.

Writes `score.json`, and `utterances.jsonl` with what each utterance adds to the scores, which comparisons of systems
need: `{"id", "task", "kind", "errors", "words"}` for a text, `{"id", "task", "kind", "label", "right"}` for a label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError, MissingFileError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.tasks import SpeechTask, build_tasks, load_tasks
from harmonifuse_espnet.evaluation.metrics import label_scores, matching_ids, text_errors, text_scores

SUM_TOLERANCE = 1e-3


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.score",
        description="Compare the answers in a decode folder with the data's; write score.json and utterances.jsonl.",
    )
    parser.add_argument("--data_dir", required=True, help="the test set: a folder with text and utt2task")
    parser.add_argument("--decode_dir", required=True, help="what decode wrote: text, ctc_text and label_probs.jsonl")
    parser.add_argument("--tasks", required=True, help="the table of tasks, conf/tasks.yaml")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the scores and print a line for each task and kind of answer."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        scores, utterances = score(Path(args.data_dir), Path(args.decode_dir), build_tasks(load_tasks(args.tasks)))
        contents = {
            "utterances.jsonl": "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in utterances),
            "score.json": json.dumps(scores, indent=1, ensure_ascii=False) + "\n",
        }
        write_files(args.decode_dir, contents)
        print("\n".join(summary(scores)))


def score(
    data_dir: Path, decode_dir: Path, tasks: Mapping[str, SpeechTask]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scores of every task that the test set has, and what each utterance adds to them.

    Kind ``llm`` scores ``text``, ``ctc`` scores ``ctc_text`` if there.

    Raises:
        FileNotFoundError: if a file is missing; says which stage makes it.
        ValueError: if ids differ between the files, a task is unknown, an answer is not one of its task's labels, or
            the label probabilities do not sum to 1 or contradict the answer.
    """
    for path, stage in ((data_dir / "text", 2), (data_dir / "utt2task", 2), (decode_dir / "text", 7)):
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file; stage {stage} makes it")
    references, names = read_table(data_dir / "text"), read_table(data_dir / "utt2task")
    with _naming(data_dir / "utt2task"):
        matching_ids(references, names)
        unknown = sorted(set(names.values()) - set(tasks))
        if unknown:
            raise InputError(f"unknown task '{unknown[0]}'; the table of tasks has {', '.join(tasks)}")
    task_of = {key: tasks[name] for key, name in names.items()}
    answers = _read_answers(decode_dir, task_of)
    scores: dict[str, Any] = {}
    utterances: list[dict[str, Any]] = []
    for task in (task for name, task in tasks.items() if name in set(names.values())):
        expected = {key: text for key, text in references.items() if names[key] == task.name}
        by_kind = {}
        for kind, (path, answer_of) in answers.items():
            if kind == "llm" or task.answer == "text":
                answered = {key: answer_of[key] for key in expected}
                with _naming(path):
                    by_kind[kind] = _score_task(task, expected, answered)
                utterances += _score_each(task, kind, expected, answered)
        scores[task.name] = {"answer": task.answer, "utterances": len(expected), "scores": by_kind}
    return {"test_set": decode_dir.resolve().name, "utterances": len(references), "tasks": scores}, utterances


def check_label_probs(path: Path, task_of: Mapping[str, SpeechTask], answers: Mapping[str, str]) -> None:
    """Check that ``label_probs.jsonl`` fits the answers.

    Args:
        path: Lines of ``{"id": ..., "probs": {label: probability}}``.
        task_of: The task of every utterance that is answered by a label.
        answers: The answer to every utterance.

    Raises:
        ValueError: if an utterance is missing, unknown or there twice, if its labels are not its task's, if its
            probabilities do not sum to 1, or if another label than the answer is the most probable.
    """
    seen = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        with _naming(f"{path}:{number}"):
            key, probs = _parse_probs(line)
            if key in seen or key not in task_of:
                raise InputError(f"'{key}' is {'there twice' if key in seen else 'no utterance of a label task'}")
            seen.add(key)
            labels = task_of[key].labels
            if set(probs) != set(labels):
                raise InputError(f"'{key}' has the labels {', '.join(probs)}, its task has {', '.join(labels)}")
            total, best = sum(probs.values()), max(probs, key=lambda label: probs[label])
            if not abs(total - 1.0) <= SUM_TOLERANCE:
                raise InputError(f"the probabilities of '{key}' sum to {total:.6f}, not to 1; decode again")
            if probs.get(answers[key], 0.0) < probs[best]:
                raise InputError(f"the most probable label of '{key}' is {best}, its answer is '{answers[key]}'")
    lacking = sorted(set(task_of) - seen)
    if lacking:
        raise InputError(
            f"{path}: lacks {len(lacking)} of {len(task_of)} utterances, first '{lacking[0]}'; decode again"
        )


def summary(scores: Mapping[str, Any]) -> Iterator[str]:
    """One line for each task and kind of answer."""
    for name, task in scores["tasks"].items():
        for kind, score in task["scores"].items():
            if task["answer"] == "text":
                counts = "{substitutions} sub, {deletions} del, {insertions} ins in {words} words".format(**score)
                line = f"WER {score['wer']:.1f} %  CER {score['cer']:.1f} %  ({counts})"
            else:
                line = f"WA {score['wa']:.1f} %  UA {score['ua']:.1f} %  macro F1 {score['macro_f1']:.1f} %"
            yield f"{scores['test_set']}  {name} ({kind})  {line}  {task['utterances']} utterances"


def _read_answers(decode_dir: Path, task_of: Mapping[str, SpeechTask]) -> dict[str, tuple[Path, dict[str, str]]]:
    """Kind of answer -> its file and the answers, checked to be to the right utterances."""
    answers = {"llm": (decode_dir / "text", read_table(decode_dir / "text", allow_empty=True))}
    with _naming(decode_dir / "text"):
        matching_ids(dict.fromkeys(task_of, ""), answers["llm"][1])
    ctc, probs = decode_dir / "ctc_text", decode_dir / "label_probs.jsonl"
    if ctc.is_file():
        answers["ctc"] = ctc, read_table(ctc, allow_empty=True)
        with _naming(ctc):
            matching_ids({key: "" for key, task in task_of.items() if task.answer == "text"}, answers["ctc"][1])
    if probs.is_file():
        labelled = {key: task for key, task in task_of.items() if task.answer == "label"}
        check_label_probs(probs, labelled, answers["llm"][1])
    return answers


def _parse_probs(line: str) -> tuple[str, dict[str, float]]:
    try:
        entry = json.loads(line)
        return str(entry["id"]), {str(label): float(value) for label, value in entry["probs"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f'expected {{"id": ..., "probs": {{label: number}}}}, got {line!r}') from error


def _score_task(task: SpeechTask, references: Mapping[str, str], answers: Mapping[str, str]) -> dict[str, Any]:
    if task.answer == "text":
        return text_scores(references, answers)
    return label_scores(references, answers, list(task.labels))


def _score_each(
    task: SpeechTask, kind: str, references: Mapping[str, str], answers: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    texts = text_errors(references, answers) if task.answer == "text" else {}
    for key in sorted(references):
        entry = {"id": key, "task": task.name, "kind": kind}
        if key in texts:
            errors, words = texts[key]
            yield {**entry, "errors": errors, "words": words}
        else:
            yield {**entry, "label": references[key], "right": answers[key] == references[key]}


@contextmanager
def _naming(where: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


if __name__ == "__main__":
    main()
