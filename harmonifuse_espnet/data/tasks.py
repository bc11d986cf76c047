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

import yaml

from harmonifuse_espnet.common.errors import InputError

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
                f"{where}: unknown label '{target}' for task '{self.name}', which has {', '.join(self.labels)}; "
                "correct the data folder's text or add the label to the table of tasks"
            )
        return self.labels[target]


Tasks = dict[str, SpeechTask]


def build_tasks(table: Mapping[str, Any]) -> Tasks:
    """Build the tasks of a parsed YAML table, in its order.

    Raises:
        InputError: if a task has no prompts, an unknown ``answer``, a held-out prompt that is empty or among
            ``prompts``, fewer than two labels, or two labels with the same text.
    """
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"the table of tasks must be a mapping of task names, got {table!r}")
    return {name: _build_task(name, index, entry) for index, (name, entry) in enumerate(table.items())}


def load_tasks(path: str | Path) -> dict[str, Any]:
    """Read and check a table of tasks; return the plain mapping, which can be part of a configuration.

    Raises:
        InputError: if the file is not YAML, or the table is invalid; the message names the file.
        FileNotFoundError: if the file does not exist.
    """
    try:
        table = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        build_tasks(table)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return table


def _build_task(name: str, index: int, entry: Mapping[str, Any]) -> SpeechTask:
    if not isinstance(entry, Mapping):
        raise InputError(f"task '{name}' must be a mapping with answer and prompts, got {entry!r}")
    unknown = set(entry) - KEYS
    if unknown:
        raise InputError(f"task '{name}' has unknown keys {sorted(unknown)}; expected {', '.join(sorted(KEYS))}")
    prompts = tuple(str(prompt) for prompt in entry.get("prompts") or ())
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise InputError(f"task '{name}' has no prompts; add at least one wording under 'prompts'")
    held_out = tuple(str(prompt) for prompt in entry.get("held_out_prompts") or ())
    for prompt in held_out:
        if not prompt.strip() or prompt in prompts:
            raise InputError(
                f"task '{name}' has the held-out prompt {prompt!r}, which is "
                f"{'one of its prompts' if prompt.strip() else 'empty'}; change or remove it in 'held_out_prompts'"
            )
    answer = entry.get("answer")
    if answer not in TARGET_KINDS:
        raise InputError(f"task '{name}' has answer: {answer!r}; expected {' or '.join(TARGET_KINDS)}")
    labels = _label_texts(entry.get("labels") or {})
    if answer == "label" and len(labels) < 2:
        raise InputError(f"task '{name}' has answer: label and {len(labels)} labels; add at least two under 'labels'")
    if len(set(labels.values())) < len(labels):
        raise InputError(f"task '{name}' has two labels with the same text: {labels}; change one of them")
    return SpeechTask(name, index, prompts, answer, labels, held_out)


def _label_texts(labels: Any) -> dict[str, str]:
    """Return label -> text; labels in a list are their own texts."""
    if isinstance(labels, Mapping):
        return {str(label): str(text) for label, text in labels.items()}
    return {str(label): str(label) for label in labels}
