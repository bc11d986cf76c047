"""Tasks are data: a name, how to ask, what an answer looks like, and how it is scored.

The table is a YAML mapping, one entry a task; a new task needs an entry here and a data folder, no code::

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

ANSWER_KINDS = ("text", "label")
KEYS = {"answer", "held_out_prompts", "labels", "prompts"}


@dataclass(frozen=True)
class SpeechTask:
    """One task that the model can be asked to do.

    Attributes:
        name: Its name in ``utt2task`` and in every log and score.
        index: Its row in per-task parameters: the position in the table.
        prompts: The wordings of its prompt. Training draws one at random, decoding takes the first.
        answer: ``text`` (free text, scored by WER and CER) or ``label`` (one of ``labels``, scored by WA, UA, F1).
        labels: For ``label``: the label as written in the data -> the words that the language model says.
        held_out_prompts: Wordings that training never draws, to test whether the task is understood in other words.
    """

    name: str
    index: int
    prompts: tuple[str, ...]
    answer: str
    labels: Mapping[str, str]
    held_out_prompts: tuple[str, ...] = ()

    def words(self, answer: str, where: str = "text") -> str:
        """The words that the language model has to say for an answer as the data write it.

        Raises:
            ValueError: if the answer is empty, or is not one of the task's labels.

        Example:
            >>> table = {"ser": {"answer": "label", "labels": {"ang": "angry", "sad": "sad"}, "prompts": ["emotion?"]}}
            >>> build_tasks(table)["ser"].words("ang")
            'angry'
        """
        if not answer.strip():
            raise InputError(f"{where}: empty answer for task '{self.name}'; give it a text or drop the utterance")
        if self.answer == "text":
            return answer
        if answer not in self.labels:
            raise InputError(
                f"{where}: unknown label '{answer}' for task '{self.name}', which knows {', '.join(self.labels)}; "
                "correct the data folder's text or add the label to the table of tasks"
            )
        return self.labels[answer]


Tasks = dict[str, SpeechTask]


def build_tasks(table: Mapping[str, Any]) -> Tasks:
    """The tasks of a table that has been read from YAML, in the table's order.

    Raises:
        ValueError: if a task lacks prompts, has an unknown answer kind, holds out a wording that is empty or trained,
            or is a label task without two labels or with two labels that say the same words.
    """
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"the table of tasks must be a mapping of task names, got {table!r}")
    return {name: _build_task(name, index, entry) for index, (name, entry) in enumerate(table.items())}


def load_tasks(path: str | Path) -> dict[str, Any]:
    """Read and check a table of tasks; returns the plain mapping, which a config file can carry.

    Raises:
        ValueError: if the file is not YAML, or the table is not valid; the message names the file.
        FileNotFoundError: if there is no such file.
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
        raise InputError(f"task '{name}' has unknown keys {sorted(unknown)}; known are {', '.join(sorted(KEYS))}")
    prompts = tuple(str(prompt) for prompt in entry.get("prompts") or ())
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise InputError(f"task '{name}' has no prompts; give at least one wording under 'prompts'")
    held_out = tuple(str(prompt) for prompt in entry.get("held_out_prompts") or ())
    for prompt in held_out:
        if not prompt.strip() or prompt in prompts:
            raise InputError(
                f"task '{name}' holds out the wording {prompt!r}, which is {'trained' if prompt.strip() else 'empty'}; "
                "reword it or take it out of 'held_out_prompts'"
            )
    answer = entry.get("answer")
    if answer not in ANSWER_KINDS:
        raise InputError(f"task '{name}' has answer kind {answer!r}; known are {', '.join(ANSWER_KINDS)}")
    labels = _labels(entry.get("labels") or {})
    if answer == "label" and len(labels) < 2:
        raise InputError(
            f"task '{name}' answers with a label but lists {len(labels)}; give at least two under 'labels'"
        )
    if len(set(labels.values())) < len(labels):
        raise InputError(f"task '{name}' has labels that say the same words: {labels}")
    return SpeechTask(name, index, prompts, answer, labels, held_out)


def _labels(labels: Any) -> dict[str, str]:
    if isinstance(labels, Mapping):
        return {str(label): str(words) for label, words in labels.items()}
    return {str(label): str(label) for label in labels}
