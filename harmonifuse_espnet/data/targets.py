"""Training targets: the text that the language model is trained to generate for each utterance of a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.data.datadir import check_same_ids, read_table
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks


class Target(NamedTuple):
    """The task of an utterance, and the text of its transcript or label."""

    task: SpeechTask
    text: str


def read_targets(data_dir: str | Path, tasks: Tasks) -> dict[str, Target]:
    """Return the targets of a data or feature folder by utterance, sorted by id.

    Raises:
        FileNotFoundError: if ``text`` or ``utt2task`` is missing.
        InputError: if an utterance is missing from one of them, or has an unknown task or label.
    """
    data_dir = Path(data_dir)
    texts, utt2task = read_table(data_dir / "text"), read_table(data_dir / "utt2task")
    if not texts:
        raise InputError(f"{data_dir / 'text'}: no utterances; prepare the folder again")
    check_same_ids(data_dir, {"text": texts, "utt2task": utt2task})
    targets = {}
    for utterance in sorted(texts):
        name = utt2task[utterance]
        if name not in tasks:
            raise InputError(
                f"{data_dir / 'utt2task'}: utterance '{utterance}' has the task {quote(name)}, the table of tasks has "
                f"{', '.join(tasks)}; correct the folder or add the task to the table"
            )
        where = f"{data_dir / 'text'}, utterance '{utterance}'"
        targets[utterance] = Target(tasks[name], tasks[name].target_text(texts[utterance], where))
    return targets
