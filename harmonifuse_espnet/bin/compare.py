"""Train, decode and score the variants of an ablation, and write their comparison to RESULTS.md.

Run it in the folder of a recipe, as local/ablation.sh does. Each run calls the recipe's run.sh and has the folder
<expdir>/<variant>_seed<k>, with the log ablation.log. Finished stages are not repeated: to resume an interrupted call,
run the command again. The tables include existing runs of variants that are not selected.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.ablation.results import ablation_results
from harmonifuse_espnet.ablation.runner import Recipe, run_all
from harmonifuse_espnet.ablation.spec import read_ablation
from harmonifuse_espnet.common.command_line import add_boolean, command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.files import write_files


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("compare", __doc__)
    parser.allow_abbrev = False
    add = parser.add_argument
    add("--config", default="conf/ablation.yaml", help="variants and their reference (default: %(default)s)")
    add("--out", default="RESULTS.md", help="file to write, with figures in images/ beside it (default: %(default)s)")
    add("--expdir", default="exp/ablation", help="folder of the runs, below run.sh's --expdir (default: %(default)s)")
    add("--variants", default="", help="variants to run, separated by spaces (default: all)")
    add("--seeds", type=int, help="maximum number of seeds of a variant (default: those in the configuration)")
    help = "number of parallel runs; if more than one, each has one process with one thread (default: %(default)s)"
    add("--jobs", type=int, default=1, help=help)
    add("--test_sets", default="", help="test sets, separated by spaces (default: those in the configuration)")
    add("--train_args", default="", help='further training options of every run, such as "--max_epoch 3"')
    add("--run_args", default="", help='further options of run.sh, such as "--ngpu 1"')
    add_boolean(parser, "--run", default=True, help="execute unfinished runs; false: only write the results")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command; exit with status 1 if a run failed."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    if args.jobs < 1 or (args.seeds is not None and args.seeds < 1):
        parser.error(f"--jobs and --seeds must be 1 or more, got {args.jobs} and {args.seeds}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with report_user_errors():
        failed = compare(args)
        print(f"wrote {args.out}" + (f"; {failed} runs failed" if failed else ""))
    sys.exit(bool(failed))


def compare(args: argparse.Namespace) -> int:
    """Execute the selected runs and write the results; return the number of failed runs."""
    expdir, out, selected = Path(args.expdir), Path(args.out), args.variants.split()
    ablation = read_ablation(Path(args.config), args.test_sets.split(), args.seeds)
    ablation.check_names(selected)
    runs = ablation.runs(expdir)
    to_run = [run for run in runs if not selected or run.variant.name in selected]
    shown = [run for run in runs if run in to_run or run.exp_dir.is_dir()]
    recipe = Recipe(expdir, args.train_args, shlex.split(args.run_args), args.jobs)
    for run in shown:
        recipe.check_unchanged(run)
    failed = []
    if args.run:
        recipe.prepare(ablation.test_sets)
        failed = run_all(recipe, ablation, to_run)
    write_files(out.parent, {out.name: ablation_results(ablation, shown, expdir, out)})
    return len(failed)


if __name__ == "__main__":
    main()
