"""Stage 1: a corpus as it is released -> Kaldi data folders, one a set.

Where the task is not the corpus' own (``--task``, ``--label``), ids end in -<task>, so that the same audio can serve
two tasks in one training set.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.corpora import an4, crema_d, iemocap, librispeech
from harmonifuse_espnet.data.datadir import Utterance, write_datadir

CORPORA = {"an4": an4, "crema_d": crema_d, "iemocap": iemocap, "librispeech": librispeech}
MOST_LABELS = 20
Sets = dict[str, list[Utterance]]


def get_parser() -> argparse.ArgumentParser:
    """The command's options: a sub-command for each corpus."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.prepare_data",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, module in CORPORA.items():
        summary = (module.__doc__ or "").split("\n")[0]
        corpus = corpora.add_parser(name, help=summary, description=summary)
        corpus.add_argument("corpus_dir", help="the unpacked corpus")
        corpus.add_argument("out_dir", help="a folder is made in it for each set")
        corpus.add_argument(
            "--set_names", nargs="+", default=(), metavar="OLD=NEW", help="other names for sets, such as test=test_an4"
        )
        module.add_arguments(corpus)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Prepare a corpus and say what each set holds."""
    options = vars(get_parser().parse_args(cmd))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with report_user_errors():
        prepare_data(**options)


def prepare_data(corpus: str, corpus_dir: str, out_dir: str, set_names: Sequence[str] = (), **options: object) -> Sets:
    """Write ``out_dir/<set>`` for every set of a corpus, and return the sets.

    Args:
        corpus: A key of ``CORPORA``.
        corpus_dir: The unpacked corpus.
        out_dir: A folder is made in it for each set.
        set_names: ``OLD=NEW``, other names for sets.
        **options: Those of the corpus' ``prepare``.

    Raises:
        ValueError, OSError: as the corpus' ``prepare`` and ``write_datadir``; on a name for a set that is not there.
    """
    module = CORPORA[corpus]
    sets = rename_sets(module.prepare(corpus_dir, **options), set_names)
    for name, rows in sets.items():
        sets[name] = [row if row.task == module.TASK else replace(row, id=f"{row.id}-{row.task}") for row in rows]
        write_datadir(Path(out_dir) / name, sets[name])
        print(report(Path(out_dir) / name, sets[name]))
    return sets


def rename_sets(sets: Sets, set_names: Sequence[str]) -> Sets:
    """The sets under their new names, each ``OLD=NEW``.

    Raises:
        ValueError: if there is no set ``OLD``, or two sets would get one name.
    """
    names = dict(rule.partition("=")[::2] for rule in set_names)
    for old, new in names.items():
        if old not in sets or not new:
            raise InputError(f"--set_names {old}={new}: the corpus' sets are {', '.join(sets)}; expected OLD=NEW")
    renamed = {names.get(name, name): rows for name, rows in sets.items()}
    if len(renamed) < len(sets):
        raise InputError(f"--set_names {' '.join(set_names)}: two sets would get the same name")
    return renamed


def report(folder: Path, rows: Sequence[Utterance]) -> str:
    """One line: utterances, speakers, and how many of each label if the answers are labels."""
    line = f"{folder}: {len(rows)} utterances, {len({row.speaker for row in rows})} speakers, task {rows[0].task}"
    answers = Counter(row.text for row in rows)
    labels = len(answers) <= MOST_LABELS and not any(" " in answer for answer in answers)
    return line + "".join(f", {answer} {count}" for answer, count in sorted(answers.items()) if labels)


if __name__ == "__main__":
    main()
