"""Scores of an experiment, read from its decode folders."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import DecodeDir, Experiment, read_run


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
    try:
        content = json.loads(folder.scores.read_text(encoding="utf-8"))
        tasks, leaks = content["tasks"], content.get("leaks")  # no leak check before 0.2.0
        for task in tasks.values():
            for score in task["scores"].values():
                if task["answer"] == "text" and "ser" in score:  # the sentence error rate's name before 0.2.0
                    score["sentence_error_rate"] = score.pop("ser")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder.scores}: not the scores that stage 8 writes ({error!r}); run it again") from error
    return ScoredSet(folder, tasks, read_run(folder.dir).get("tasks", {}), leaks)
