"""What the language model has to say for each utterance of a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import check_same_ids, read_table
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks


class Target(NamedTuple):
    """The task of an utterance, and the words that answer it."""

    task: SpeechTask
    words: str


def read_targets(data_dir: str | Path, tasks: Tasks) -> dict[str, Target]:
    """The answers of a data or feature folder, by utterance, sorted by id.

    Raises:
        FileNotFoundError: if ``text`` or ``utt2task`` is missing.
        ValueError: if an utterance is in one of them only, its task is not in the table, or its label is unknown.
    """
    data_dir = Path(data_dir)
    text, utt2task = read_table(data_dir / "text"), read_table(data_dir / "utt2task")
    if not text:
        raise InputError(f"{data_dir / 'text'}: no utterances; prepare the folder again")
    check_same_ids(data_dir, {"text": text, "utt2task": utt2task})
    answers = {}
    for utterance in sorted(text):
        name = utt2task[utterance]
        if name not in tasks:
            raise InputError(
                f"{data_dir / 'utt2task'}: utterance '{utterance}' has the task '{name}', the table of tasks knows "
                f"{', '.join(tasks)}; correct the folder or add the task to the table"
            )
        where = f"{data_dir / 'text'}, utterance '{utterance}'"
        answers[utterance] = Target(tasks[name], tasks[name].words(text[utterance], where))
    return answers
