"""Stage 1: convert a released corpus to Kaldi data folders, one for each set.

If the task is not the corpus's default (--task, --label), ids end in -<task>, so that a training set can have the same
recordings for two tasks.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from harmonifuse_espnet.common.command_line import command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.corpora.prepare import CORPORA, prepare_data


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser, with a sub-command for each corpus."""
    parser = command_parser("prepare_data", __doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, module in CORPORA.items():
        summary = (module.__doc__ or "").split("\n")[0]
        corpus = corpora.add_parser(name, help=summary, description=summary)
        corpus.add_argument("corpus_dir", help="the unpacked corpus")
        corpus.add_argument("out_dir", help="parent of the data folders to write")
        corpus.add_argument(
            "--set_names", nargs="+", default=(), metavar="OLD=NEW", help="new names of sets, such as test=test_an4"
        )
        module.add_arguments(corpus)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    options = vars(get_parser().parse_args(cmd))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with report_user_errors():
        prepare_data(**options)


if __name__ == "__main__":
    main()
