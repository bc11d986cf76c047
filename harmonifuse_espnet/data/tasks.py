"""The table of tasks: the prompts of each task, its kind of target (free text or a label), and its labels.

A new task needs an entry in this YAML mapping and a data folder, but no code::

    asr:
      answer: text
      prompts: [TRANSCRIBE THE SPEECH, WRITE DOWN THE WORDS]
      held_out_prompts: [WRITE DOWN THE SPEECH]
    ser:
      answer: label
      labels: {ang: ANGRY, hap: HAPPY, neu: NEUTRAL, sad: SAD}
      prompts: [NAME THE EMOTION]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import check_name, normalize_text, quote, read_text
from harmonifuse_espnet.common.yaml_file import check_strings, parse_yaml

TARGET_KINDS = ("text", "label")
KEYS = {"answer", "held_out_prompts", "labels", "prompts"}


@dataclass(frozen=True)
class SpeechTask:
    """One task of the model.

    Attributes:
        name: Name in ``utt2task``, logs and scores.
        index: Position in the table, and index of per-task parameters.
        prompts: Wordings of the prompt. Training draws one at random, decoding uses the first.
        answer: Kind of target: ``text`` (free text; WER and CER) or ``label`` (one of ``labels``; WA, UA and F1).
        labels: Label in the data folder -> text for the language model; empty for text tasks.
        held_out_prompts: Wordings that training does not use, to test generalisation to new prompts.
    """

    name: str
    index: int
    prompts: tuple[str, ...]
    answer: str
    labels: Mapping[str, str]
    held_out_prompts: tuple[str, ...] = ()

    def target_text(self, target: str, where: str = "text") -> str:
        """Return the text that the language model is trained to generate for a target of the data folder.

        Args:
            target: Transcript or label.
            where: File or utterance of the target, for error messages.

        Raises:
            InputError: if the target is empty, or is not one of the task's labels.

        Example:
            >>> table = {"ser": {"answer": "label", "labels": {"ang": "angry", "sad": "sad"}, "prompts": ["emotion?"]}}
            >>> build_tasks(table)["ser"].target_text("ang")
            'angry'
        """
        if not target.strip():
            raise InputError(f"{where}: empty target for task '{self.name}'; add its text or remove the utterance")
        if self.answer == "text":
            return target
        if target not in self.labels:
            raise InputError(
                f"{where}: unknown label {quote(target)} for task '{self.name}', which has {', '.join(self.labels)}; "
                "correct the data folder's text or add the label to the table of tasks"
            )
        return self.labels[target]


Tasks = dict[str, SpeechTask]


def build_tasks(table: Mapping[str, Any]) -> Tasks:
    """Build the tasks of a parsed YAML table, in its order. Texts are normalised as in data folders.

    Raises:
        InputError: if a name, label or prompt is not a string, a task has no prompts, an unknown ``answer``, a
            held-out prompt that is empty or among ``prompts``, fewer than two labels, or two labels with the same text.
    """
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"the table of tasks must be a mapping of task names, got {quote(table)}")
    for name in table:
        check_name(_string(name, "the table of tasks"), "the table of tasks")
    return {name: _build_task(name, index, entry) for index, (name, entry) in enumerate(table.items())}


def load_tasks(path: str | Path) -> dict[str, Any]:
    """Read and check a table of tasks; return the plain mapping, which can be part of a configuration.

    Raises:
        InputError: if the file is not YAML, has a word that YAML reads as a number or true or false, or the table is
            invalid; the message names the file.
        MissingFileError: if the file does not exist.
    """
    text = read_text(path, "give the table of tasks, such as conf/tasks.yaml")
    table = parse_yaml(text, str(path))
    check_strings(text, str(path))
    try:
        build_tasks(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return table


def _build_task(name: str, index: int, entry: Mapping[str, Any]) -> SpeechTask:
    if not isinstance(entry, Mapping):
        raise InputError(f"task '{name}' must be a mapping with answer and prompts, got {quote(entry)}")
    where = f"task '{name}'"
    unknown = {str(key) for key in entry} - KEYS
    if unknown:
        raise InputError(f"task '{name}' has unknown keys {sorted(unknown)}; expected {', '.join(sorted(KEYS))}")
    prompts = _texts(entry.get("prompts"), where, "prompts")
    if not prompts or not all(prompts):
        raise InputError(f"task '{name}' has no prompts; add at least one wording under 'prompts'")
    held_out = _texts(entry.get("held_out_prompts"), where, "held_out_prompts")
    for prompt in held_out:
        if not prompt or prompt in prompts:
            raise InputError(
                f"task '{name}' has the held-out prompt {quote(prompt)}, which is "
                f"{'one of its prompts' if prompt else 'empty'}; change or remove it in 'held_out_prompts'"
            )
    answer = entry.get("answer")
    if answer not in TARGET_KINDS:
        raise InputError(f"task '{name}' has answer: {quote(answer)}; expected {' or '.join(TARGET_KINDS)}")
    labels = _label_texts(entry.get("labels") or {}, where)
    if answer == "label" and len(labels) < 2:
        raise InputError(f"task '{name}' has answer: label and {len(labels)} labels; add at least two under 'labels'")
    if len(set(labels.values())) < len(labels):
        raise InputError(f"task '{name}' has two labels with the same text: {labels}; change one of them")
    return SpeechTask(name, index, prompts, answer, labels, held_out)


def _label_texts(labels: Any, where: str) -> dict[str, str]:
    """Return label -> text; labels in a list are their own texts."""
    if isinstance(labels, Mapping):
        names, texts = _texts(list(labels), where, "labels"), _texts(list(labels.values()), where, "labels")
    else:
        names = texts = _texts(labels, where, "labels")
    if len(set(names)) < len(names) or not all(names):
        raise InputError(f"{where} has an empty or duplicate label: {', '.join(names)}; correct 'labels'")
    return dict(zip(names, texts, strict=True))


def _texts(values: Any, where: str, key: str) -> tuple[str, ...]:
    """Return a list of texts in one form."""
    if values is not None and not isinstance(values, (list, tuple)):
        raise InputError(f"{where} has {key}: {quote(values)}; expected a list, such as [{values}]")
    return tuple(normalize_text(_string(value, f"{where}, {key}"), f"{where}, {key}") for value in values or ())


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {quote(value)} is not a text; write it in quotes")
    return value
