"""Targets, tasks and speakers of a dump folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.data.datadir import TABLES, check_same_ids, read_table
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks


@dataclass(frozen=True)
class References:
    """The utterances of a training or test set; every mapping is by utterance id.

    Attributes:
        targets: Transcript or label.
        tasks: Task.
        speakers: Speaker id.
    """

    targets: Mapping[str, str]
    tasks: Mapping[str, SpeechTask]
    speakers: Mapping[str, str]

    def targets_of(self, task: SpeechTask) -> dict[str, str]:
        """Return the targets of the utterances of one task."""
        return {key: target for key, target in self.targets.items() if self.tasks[key] == task}


def read_references(data_dir: Path, tasks: Tasks) -> References:
    """Read ``text``, ``utt2task`` and ``utt2spk`` of a dump folder.

    Raises:
        MissingFileError: if one of the files is missing.
        InputError: if they are empty or have different utterances, or a task is not in the table of tasks.
    """
    for name in TABLES:
        if not (data_dir / name).is_file():
            raise MissingFileError(f"{data_dir / name}: no such file; run stage 2, which writes it")
    tables = {name: read_table(data_dir / name) for name in TABLES}
    check_same_ids(data_dir, tables)
    if not tables["text"]:
        raise InputError(f"{data_dir / 'text'}: no utterances; run stage 2 again")
    names = tables["utt2task"]
    unknown = sorted(set(names.values()) - set(tasks))
    if unknown:
        raise InputError(
            f"{data_dir / 'utt2task'}: unknown task {quote(unknown[0])}; the table of tasks has {', '.join(tasks)}; "
            "add the task to the table, or pass the table of the training"
        )
    return References(tables["text"], {key: tasks[name] for key, name in names.items()}, tables["utt2spk"])
