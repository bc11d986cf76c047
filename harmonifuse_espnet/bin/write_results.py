"""Stage 8, second half: RESULTS.md and its pictures, from the scores of one or more experiments."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Sequence
from datetime import datetime
from itertools import cycle
from pathlib import Path

from harmonifuse_espnet.common.errors import MissingFileError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.evaluation.figures import experiment_with_figures
from harmonifuse_espnet.evaluation.report import environment, mean_of_folds, read_scores


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.write_results",
        description="Collect decode_*/<test_set>/score.json into RESULTS.md, draw the pictures, print the file.",
    )
    experiments = parser.add_mutually_exclusive_group(required=True)
    experiments.add_argument("--exp_dir", action="append", help="an experiment; may be given again")
    experiments.add_argument(
        "--folds", metavar="GLOB", help="all folds of a cross-validation, as far as they are scored; adds their mean"
    )
    parser.add_argument("--out", required=True, help="the file to write; its pictures go to images/ beside it")
    parser.add_argument(
        "--train_config",
        action="append",
        default=[],
        help="the config to link: the folds', or once for each --exp_dir, in its order",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the pictures and RESULTS.md, and print it."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    expected = 1 if args.folds else len(args.exp_dir)
    if args.train_config and len(args.train_config) != expected:
        parser.error(f"{expected} --train_config expected, or none, got {len(args.train_config)}")
    with report_user_errors():
        out = Path(args.out)
        experiments = find_folds(args.folds) if args.folds else [Path(name) for name in args.exp_dir]
        configs: list[Path | None] = [Path(name) for name in args.train_config] or [None]
        scored = {exp_dir: read_scores(exp_dir) for exp_dir in experiments}
        parts = [
            "# RESULTS\n\nMade by `harmonifuse_espnet.bin.write_results`; do not edit.",
            environment(datetime.now()),
            *([mean_of_folds(list(scored.values()))] if len(scored) > 1 and args.folds else []),
        ]
        for (exp_dir, scores), config in zip(scored.items(), cycle(configs), strict=False):
            prefix = f"{exp_dir.parent.name}_{exp_dir.name}" if args.folds else exp_dir.resolve().name
            parts += experiment_with_figures(exp_dir, scores, out, config, prefix)
        text = "\n\n".join(parts) + "\n"
        write_files(out.parent, {out.name: text})
        print(text, end="")


def find_folds(pattern: str) -> list[Path]:
    """The scored experiments that a glob names, sorted.

    Raises:
        FileNotFoundError: if there is none.
    """
    folds = sorted(Path(name) for name in glob.glob(pattern))
    scored = [fold for fold in folds if any(fold.glob("decode_*/*/score.json"))]
    if not scored:
        raise MissingFileError(f"{pattern}: none of the {len(folds)} experiments there is scored; run stages 7 and 8")
    return scored


if __name__ == "__main__":
    main()
