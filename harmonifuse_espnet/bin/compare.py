"""Train, decode and score the variants of an ablation, and write what they show into RESULTS.md.

Call it in a recipe's folder (local/ablation.sh does). What is done is not done again: a call that was stopped goes on
where it was. Every run is <expdir>/<variant>_seed<k>, made by the recipe's run.sh; its log is ablation.log there. The
table has every run that is there, whichever are chosen.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from harmonifuse_espnet.ablation.comparison import compare
from harmonifuse_espnet.ablation.runner import Recipe, run_all
from harmonifuse_espnet.ablation.spec import Ablation, Run, read_ablation
from harmonifuse_espnet.ablation.tables import comparison_tables, cost_table, in_words
from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.errors import InputError, MissingFileError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.evaluation import plots
from harmonifuse_espnet.evaluation.figures import experiment_with_figures
from harmonifuse_espnet.evaluation.report import environment, figure_links, read_scores


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", default="conf/ablation.yaml", help="the variants and their reference [%(default)s]")
    parser.add_argument("--out", default="RESULTS.md", help="the file to write, with images/ beside it [%(default)s]")
    parser.add_argument(
        "--expdir", default="exp/ablation", help="folder of the runs, in run.sh's --expdir [%(default)s]"
    )
    parser.add_argument("--variants", default="", help="run these only, names separated by blanks [all]")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each variant [all]")
    help = "runs at a time; with several, each has one process of one thread [%(default)s]"
    parser.add_argument("--jobs", type=int, default=1, help=help)
    parser.add_argument("--test_sets", default="", help="test sets in place of the config's, separated by blanks")
    parser.add_argument("--train_args", default="", help='more options for every training, such as "--max_epoch 3"')
    parser.add_argument("--run_args", default="", help='more options for run.sh, such as "--ngpu 1"')
    parser.add_argument("--run", type=boolean, default=True, help="false: only the tables, of what is there")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run what is missing, write the table, and end with status 1 if a run failed."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    if args.jobs < 1 or (args.seeds is not None and args.seeds < 1):
        parser.error(f"--jobs and --seeds must be 1 or more, got {args.jobs} and {args.seeds}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with report_user_errors():
        expdir, out = Path(args.expdir), Path(args.out)
        ablation = read_ablation(Path(args.config), args.test_sets.split(), args.seeds)
        names = args.variants.split()
        runs, failed = choose(ablation, expdir, names), []
        recipe = Recipe(expdir, args.train_args, shlex.split(args.run_args), args.jobs)
        for run in runs:
            recipe.check_unchanged(run)
        if args.run:
            recipe.prepare(ablation.test_sets)
            failed = run_all(recipe, ablation, [run for run in runs if wanted(run, names)])
        write_files(out.parent, {out.name: results(ablation, runs, out)})
        print(f"{out}: written" + (f"; {len(failed)} runs failed" if failed else ""))
    sys.exit(bool(failed))


def choose(ablation: Ablation, expdir: Path, names: Sequence[str]) -> list[Run]:
    """The runs of the chosen variants, all if none is named, and those of others that are there.

    Raises:
        ValueError: if a name is no variant's.
    """
    known = [variant.name for variant in ablation.variants]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"--variants: '{unknown[0]}' is no variant; there are {', '.join(known)}")
    return [run for run in ablation.runs(expdir) if wanted(run, names) or run.exp_dir.is_dir()]


def wanted(run: Run, names: Sequence[str]) -> bool:
    """Whether to carry a run out."""
    return not names or run.variant.name in names


def results(ablation: Ablation, runs: Sequence[Run], out: Path) -> str:
    """The text of RESULTS.md; draws its plots.

    Raises:
        FileNotFoundError: if no run is scored.
    """
    expdir, comparisons = runs[0].exp_dir.parent, compare(ablation, runs)
    if not comparisons:
        configs = " or ".join(map(str, ablation.decode))
        raise MissingFileError(f"no run in {expdir} is scored with {configs} as it is now; nothing to write")
    curves = list(learning_curves(ablation, runs, out))
    reference = Run(ablation.reference, 1, expdir / f"{ablation.reference.name}_seed1")
    parts = [
        "# RESULTS\n\nMade by `harmonifuse_espnet.bin.compare`; do not edit.",
        environment(datetime.now()),
        in_words(ablation, comparisons),
        comparison_tables(ablation, comparisons),
        cost_table(ablation, runs, out.parent),
        *([figure_links(curves, out.parent)] if curves else []),
    ]
    if any(reference.exp_dir.glob("decode_*/*/score.json")):
        scored, prefix = read_scores(reference.exp_dir), reference.exp_dir.name
        parts += experiment_with_figures(reference.exp_dir, scored, out, reference.variant.config, prefix)
    return "\n\n".join(parts) + "\n"


def learning_curves(ablation: Ablation, runs: Sequence[Run], out: Path) -> Iterator[tuple[str, Path]]:
    """Draw the learning curves of all runs, if any has a TensorBoard log, and give caption and file."""
    curves = {
        variant.title: [
            plots.read_curves(run.exp_dir / "tensorboard")
            for run in runs
            if run.variant == variant and (run.exp_dir / "tensorboard").is_dir()
        ]
        for variant in ablation.variants
    }
    curves = {title: seeds for title, seeds in curves.items() if seeds}
    if curves:
        path = out.parent / "images" / f"{runs[0].exp_dir.parent.name}_learning_curves.png"
        plots.draw_learning_curves(curves, ablation.reference.title, "learning curves", path)
        yield "learning curves of all variants", path


if __name__ == "__main__":
    main()
