"""RESULTS.md of an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from harmonifuse_espnet.ablation.comparison import compare
from harmonifuse_espnet.ablation.spec import Ablation, Run
from harmonifuse_espnet.ablation.tables import comparison_tables, cost_table, summary
from harmonifuse_espnet.common.errors import MissingFileError
from harmonifuse_espnet.evaluation import plots
from harmonifuse_espnet.evaluation.environment import environment
from harmonifuse_espnet.evaluation.figures import experiment_sections
from harmonifuse_espnet.evaluation.report import figure_links, title
from harmonifuse_espnet.evaluation.scores import read_scores


def ablation_results(ablation: Ablation, runs: Sequence[Run], expdir: Path, out: Path) -> str:
    """Return the text of RESULTS.md, and draw its figures into ``images`` beside ``out``.

    Raises:
        MissingFileError: if no run is scored.
    """
    comparisons = compare(ablation, runs)
    if not comparisons:
        configs = " or ".join(map(str, ablation.decode))
        raise MissingFileError(
            f"{expdir}: no run is scored with the current {configs}; run the command without --run false, or see "
            "the ablation.log of failed runs"
        )
    curves = list(_learning_curves(ablation, runs, expdir, out))
    parts = [
        title("compare"),
        environment(datetime.now()),
        summary(ablation, comparisons),
        comparison_tables(ablation, comparisons),
        cost_table(ablation, runs, out.parent),
        *([figure_links(curves, out.parent)] if curves else []),
    ]
    reference = Run(ablation.reference, 1, expdir / f"{ablation.reference.name}_seed1")
    if any(reference.experiment.scored()):
        scored, prefix = read_scores(reference.exp_dir), reference.exp_dir.name
        parts += experiment_sections(reference.exp_dir, scored, out, ablation.reference.config, prefix)
    return "\n\n".join(parts) + "\n"


def _learning_curves(ablation: Ablation, runs: Sequence[Run], expdir: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Draw the learning curves of all runs with a TensorBoard log; yield caption and file."""
    logs = [(run.variant, run.experiment.tensorboard) for run in runs if run.experiment.tensorboard.is_dir()]
    curves = {
        variant.title: [plots.read_curves(log) for other, log in logs if other == variant]
        for variant in ablation.variants
        if variant in [other for other, _ in logs]
    }
    if curves:
        path = out.parent / "images" / f"{expdir.name}_learning_curves.png"
        plots.draw_learning_curves(curves, ablation.reference.title, "learning curves", path)
        yield "learning curves of all variants", path
