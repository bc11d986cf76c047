"""Scores of an experiment, read from its decode folders."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import RUN, DecodeDir, Experiment, read_run
from harmonifuse_espnet.common.json_file import read_json, read_json_lines
from harmonifuse_espnet.common.text import quote

_KEY = ("id", "speaker", "task", "kind")  # of a line of utterances.jsonl
_COUNTS = ("errors", "words")
_AGAIN = "run stage 8 again"


@dataclass(frozen=True)
class ScoredSet:
    """The scores of one decoded test set.

    Attributes:
        folder: Decode folder.
        tasks: Task -> ``answer`` (``text`` or ``label``), ``utterances`` and ``scores`` by kind of hypothesis.
        weights: Task -> layer weights by prompt, see
            :func:`harmonifuse_espnet.inference.inspection.layer_weights_by_prompt`; {} if they were not recorded.
        leaks: Leak check, see :func:`harmonifuse_espnet.evaluation.leaks.find_leaks`; None if there was none.
    """

    folder: DecodeDir
    tasks: Mapping[str, Any]
    weights: Mapping[str, Any]
    leaks: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """``decode_<tag>/<test_set>``."""
        return self.folder.name


def read_scores(exp_dir: Path) -> list[ScoredSet]:
    """Read the scores of all decoded test sets of an experiment, sorted by name.

    Raises:
        MissingFileError: if no test set is scored.
        InputError: if a file is not valid.
    """
    folders = list(Experiment(exp_dir).scored())
    if not folders:
        raise MissingFileError(f"{exp_dir}: no decode_*/<test_set>/score.json; run stages 7 and 8 first")
    return [_read_set(each) for each in folders]


def read_utterance_scores(path: Path) -> list[dict[str, Any]]:
    """Read an ``utterances.jsonl``, the scores of each utterance.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if it is damaged, has no speakers, as the files of earlier versions, or an utterance is a duplicate.
    """
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, entry in read_json_lines(path, _AGAIN):
        values = {name: entry[name] for name in entry if name not in _KEY}
        if "speaker" not in entry and "id" in entry:
            raise InputError(
                f"{path}: utterance {quote(entry['id'])} has no speaker, so an earlier version wrote these scores; run "
                "stage 8 again (./run.sh --stage 8 --stop_stage 8, with the run's --tag, --inference_tag, --test_sets "
                "and --results)"
            )
        key = tuple(entry.get(name) for name in _KEY)
        is_valid = _is_text_score(values) or _is_label_score(values)
        if not is_valid or not all(isinstance(each, str) for each in key):
            raise InputError(f"{path}:{number}: not the score of an utterance: {quote(entry)}; {_AGAIN}")
        if key in entries:
            raise InputError(f"{path}:{number}: duplicate utterance {quote(entry['id'])}; {_AGAIN}")
        entries[key] = entry
    return list(entries.values())


def _is_text_score(values: Mapping[str, Any]) -> bool:
    return set(_COUNTS) <= set(values) and all(type(value) is int and value >= 0 for value in values.values())


def _is_label_score(values: Mapping[str, Any]) -> bool:
    return set(values) == {"label", "correct"} and isinstance(values["label"], str) and type(values["correct"]) is bool


def find_scored_experiments(pattern: str) -> list[Path]:
    """Return the experiment folders that match a glob pattern and are scored, sorted.

    Raises:
        MissingFileError: if none is scored.
    """
    found = sorted(Path(name) for name in glob.glob(pattern))
    scored = [folder for folder in found if any(Experiment(folder).scored())]
    if not scored:
        raise MissingFileError(f"{pattern}: none of {len(found)} experiments is scored; run stages 7 and 8")
    return scored


def _read_set(folder: DecodeDir) -> ScoredSet:
    content = read_json(folder.scores, "run stage 8 again")
    try:
        tasks, leaks = content["tasks"], content.get("leaks")  # no leak check before 0.2.0
        for task in tasks.values():
            for score in task["scores"].values():
                if task["answer"] == "text" and "ser" in score:  # the sentence error rate's name before 0.2.0
                    score["sentence_error_rate"] = score.pop("ser")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder.scores}: not the scores that stage 8 writes ({error!r}); run it again") from error
    return ScoredSet(folder, tasks, _read_weights(folder), leaks)


def _read_weights(folder: DecodeDir) -> dict[str, Any]:
    weights = read_run(folder.dir).get("tasks", {})
    if not isinstance(weights, dict) or not all(isinstance(each, dict) for each in weights.values()):
        raise InputError(
            f"{folder.dir / RUN}: 'tasks' must be the layer weights by task, got {quote(weights)}; run stage 7 again"
        )
    return weights
