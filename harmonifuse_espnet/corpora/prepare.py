"""Stage 1: write a Kaldi data folder for each set of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.corpora import an4, crema_d, iemocap, librispeech
from harmonifuse_espnet.data.datadir import Utterance, write_datadir

CORPORA = {"an4": an4, "crema_d": crema_d, "iemocap": iemocap, "librispeech": librispeech}
MAX_LABELS = 20  # in a summary
Sets = dict[str, list[Utterance]]


def prepare_data(corpus: str, corpus_dir: str, out_dir: str, set_names: Sequence[str] = (), **options: object) -> Sets:
    """Write ``out_dir/<set>`` for every set of a corpus, print a summary of each, and return the sets.

    If the task is not the default of the corpus, ids get the suffix ``-<task>``, so that a training set can have a
    recording with two tasks.

    Args:
        corpus: A key of ``CORPORA``.
        corpus_dir: The unpacked corpus.
        out_dir: Parent of the data folders.
        set_names: ``OLD=NEW``, new names of sets.
        **options: Options of the corpus's ``prepare``.

    Raises:
        InputError: if ``set_names`` has an unknown set; also from the corpus's ``prepare`` and ``write_datadir``.
        OSError: if a file of the corpus is missing, or a data folder cannot be written.
    """
    reader = CORPORA[corpus]
    sets = rename_sets(reader.prepare(corpus_dir, **options), set_names)
    for name, rows in sets.items():
        sets[name] = [row if row.task == reader.TASK else replace(row, id=f"{row.id}-{row.task}") for row in rows]
        write_datadir(Path(out_dir) / name, sets[name])
        print(summarize(Path(out_dir) / name, sets[name]))
    return sets


def rename_sets(sets: Sets, set_names: Sequence[str]) -> Sets:
    """Return the sets with new names, each given as ``OLD=NEW``.

    Raises:
        InputError: if there is no set ``OLD``, or two sets would have the same name.
    """
    names = dict(rule.partition("=")[::2] for rule in set_names)
    for old, new in names.items():
        if old not in sets or not new:
            raise InputError(f"--set_names {old}={new}: the corpus has the sets {', '.join(sets)}; expected OLD=NEW")
    renamed = {names.get(name, name): rows for name, rows in sets.items()}
    if len(renamed) < len(sets):
        raise InputError(f"--set_names {' '.join(set_names)}: two sets would have the same name; change one of them")
    return renamed


def summarize(folder: Path, rows: Sequence[Utterance]) -> str:
    """Return one line: the number of utterances and speakers, and for a label task the count of each label."""
    line = f"{folder}: {len(rows)} utterances, {len({row.speaker for row in rows})} speakers, task {rows[0].task}"
    counts = Counter(row.text for row in rows)
    are_labels = len(counts) <= MAX_LABELS and not any(" " in text for text in counts)
    return line + "".join(f", {label} {count}" for label, count in sorted(counts.items()) if are_labels)
