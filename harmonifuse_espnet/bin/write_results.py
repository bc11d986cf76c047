"""Stage 8, second part: collect the scores of one or more experiments into RESULTS.md, with figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from itertools import cycle
from pathlib import Path

from harmonifuse_espnet.common.command_line import command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.evaluation.environment import environment
from harmonifuse_espnet.evaluation.figures import experiment_sections
from harmonifuse_espnet.evaluation.report import mean_of_folds, title
from harmonifuse_espnet.evaluation.scores import find_scored_experiments, read_scores


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("write_results", __doc__)
    experiments = parser.add_mutually_exclusive_group(required=True)
    experiments.add_argument("--exp_dir", action="append", help="experiment folder; may be repeated")
    help = "all scored folds of a cross-validation; adds the mean over the folds"
    experiments.add_argument("--folds", metavar="GLOB", help=help)
    parser.add_argument("--out", required=True, help="file to write, with figures in images/ beside it")
    help = "training configuration to link: one for all folds, or one for each --exp_dir in the same order"
    parser.add_argument("--train_config", action="append", default=[], help=help)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command; print the file that it writes."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    expected = 1 if args.folds else len(args.exp_dir)
    if args.train_config and len(args.train_config) != expected:
        parser.error(f"expected {expected} --train_config or none, got {len(args.train_config)}")
    with report_user_errors():
        text = results(args)
        out = Path(args.out)
        write_files(out.parent, {out.name: text})
        print(text, end="")


def results(args: argparse.Namespace) -> str:
    """Return the text of RESULTS.md, and draw its figures."""
    folders = find_scored_experiments(args.folds) if args.folds else [Path(name) for name in args.exp_dir]
    configs: list[Path | None] = [Path(name) for name in args.train_config] or [None]
    scored = {folder: read_scores(folder) for folder in folders}
    parts = [title("write_results"), environment(datetime.now())]
    if args.folds and len(scored) > 1:
        parts.append(mean_of_folds(list(scored.values())))
    for (folder, scores), config in zip(scored.items(), cycle(configs), strict=False):
        prefix = f"{folder.parent.name}_{folder.name}" if args.folds else folder.resolve().name
        parts += experiment_sections(folder, scores, Path(args.out), config, prefix)
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
