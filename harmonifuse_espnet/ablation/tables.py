"""Markdown of an ablation: summary, tables of comparisons, table of costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from humanfriendly import format_size

from harmonifuse_espnet.ablation.comparison import NO_DIFFERENCE, Comparison, Row
from harmonifuse_espnet.ablation.cost import Cost, mean_of, read_cost
from harmonifuse_espnet.ablation.significance import ALPHA, smallest_p
from harmonifuse_espnet.ablation.spec import Ablation, Run, Variant, decode_tag
from harmonifuse_espnet.evaluation.markdown import link, table

HOW_TO_READ = """\
Mean and standard deviation over the seeds, in percent. The difference to {reference} is in percentage points, with its
95 % interval (paired bootstrap over the speakers of the test set, each with its mean over the seeds), the p-value of
the matched-pairs test (sign flips of whole speakers), and p corrected for the rows of the table by Holm's method. A
difference is significant if the corrected p < 0.05, the interval excludes 0, and it is larger than the spread of the
seeds, sqrt(sd² + sd²); a variant with one seed is assumed to have the spread of {reference}."""
COST_COLUMNS_EXPLAINED = """\
Means over the seeds. *Audio* is the audio of all training batches (rebuilt from seed and epoch; before speed
perturbation) per second of the training epochs; *minutes* include validation; *memory* is the peak of the largest
training process, or of the GPU; *RTF* is the real-time factor of the model with `{decode}`; *jobs* is the number of
runs that shared the machine."""
COST_COLUMNS = {  # attribute of Cost -> header, format; None: bytes
    "parameters": ("parameters", "{:,.0f}"),
    "trained": ("trained", "{:,.0f}"),
    "audio_rate": ("audio (s/s)", "{:.0f}"),
    "minutes": ("minutes", "{:.1f}"),
    "memory": ("memory", None),
    "rtf": ("RTF", "{:.3f}"),
    "jobs": ("jobs", "{:.0f}"),
}
VERDICT_ON_REFERENCE = {  # verdict on a variant -> words for the reference
    "worse": "better in",
    "better": "worse in",
    NO_DIFFERENCE: "no difference shown in",
}


def comparison_tables(ablation: Ablation, comparisons: Sequence[Comparison]) -> str:
    """Return a section for each decoding configuration, with a table for each test set, task and metric."""
    parts = ["## Comparison", HOW_TO_READ.format(reference=ablation.reference.title)]
    for decode in ablation.decode:
        chosen = [comparison for comparison in comparisons if comparison.decode == decode]
        parts += [f"### decode_{decode_tag(decode)}"] if chosen else []
        for comparison in chosen:
            difference = f"difference to {ablation.reference.title}"
            header = ("variant", "seeds", comparison.metric, difference, "p", "p (Holm)", "verdict")
            parts += [_caption(comparison), table(header, [_cells(row) for row in comparison.rows])]
    return "\n\n".join(parts)


def summary(ablation: Ablation, comparisons: Sequence[Comparison]) -> str:
    """Return the section that compares the reference with each variant, for the first decoding configuration."""
    main = [comparison for comparison in comparisons if comparison.decode == ablation.decode[0]]
    others = [each for each in ablation.variants if each not in (ablation.reference, *ablation.baselines)]
    no_difference = [each for each in others if {row.verdict for _, row in _rows(each, main)} == {NO_DIFFERENCE}]
    lines = [
        f"- {ablation.reference.title} against {each.title}: {_summarize(_rows(each, main))}."
        for each in (*ablation.baselines, *others)
        if each not in no_difference
    ]
    if no_difference:
        titles = _join([each.title for each in no_difference])
        lines.append(f"- No difference shown in any metric against {titles}.")
    parts = [ablation.about, f"Decoding with `{ablation.decode[0]}`:", "\n".join(lines)]
    return "\n\n".join(["## Summary", *filter(None, parts)])


def cost_table(ablation: Ablation, runs: Sequence[Run], out_dir: Path) -> str:
    """Return the section of the costs; each variant is linked to its configuration."""
    decode, rows = ablation.decode[0], []
    for variant in ablation.variants:
        found = [read_cost(run.exp_dir, decode_tag(decode)) for run in runs if run.variant == variant]
        cells = _cost_cells([cost for cost in found if cost])
        rows.append([link(variant.config, out_dir, variant.title), *cells])
    header = ["variant", *(name for name, _ in COST_COLUMNS.values())]
    return "\n\n".join(["## Cost", COST_COLUMNS_EXPLAINED.format(decode=decode), table(header, rows)])


def _caption(comparison: Comparison) -> str:
    """Return the line above a table; it says so if the speakers are too few for a significant difference."""
    speakers, rows = comparison.speakers, sum(row.difference is not None for row in comparison.rows)
    caption = f"{comparison.name}, {comparison.utterances} utterances of {speakers} speaker{'s' * (speakers != 1)}"
    if rows * smallest_p(speakers) >= ALPHA:
        caption += (
            f" (too few speakers for a significant difference: p is at least 2 / 2^{speakers} = "
            f"{smallest_p(speakers):.2g}, and the smallest p must be below {ALPHA} / {rows} = {ALPHA / rows:.2g})"
        )
    return f"{caption}:"


def _cells(row: Row) -> list[str]:
    seeds = str(len(row.rates)) if len(row.rates) == row.variant.seeds else f"{len(row.rates)} of {row.variant.seeds}"
    if row.difference is None:
        return [row.variant.title, seeds, row.rate, "-", "-", "-", row.verdict]
    value, low, high = row.difference.value, row.difference.low, row.difference.high
    return [
        row.variant.title,
        seeds,
        row.rate,
        f"{value:+.1f} [{low:+.1f}, {high:+.1f}]",
        *(f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in (row.difference.p, row.difference.corrected_p)),
        row.verdict,
    ]


def _rows(variant: Variant, comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Row]]:
    """Return the row of a variant in each comparison that has one."""
    return [(each, row) for each in comparisons for row in each.rows if row.variant == variant]


def _summarize(rows: Sequence[tuple[Comparison, Row]]) -> str:
    """Return the verdicts on the reference, with both rates."""
    groups = []
    for verdict, words in VERDICT_ON_REFERENCE.items():
        found = [(each, row) for each, row in rows if row.verdict == verdict]
        named = [f"{each.name} ({each.rows[0].rate} against {row.rate})" for each, row in found]
        groups += [f"{words} {_join(named)}"] if named else []
    missing = [each.name for each, row in rows if row.difference is None]
    if missing or not groups:
        groups.append(f"not compared in {_join(missing) or 'any metric'}")
    return "; ".join(groups)


def _join(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _cost_cells(costs: Sequence[Cost]) -> Iterator[str]:
    for name, (_, form) in COST_COLUMNS.items():
        value = mean_of([getattr(cost, name) for cost in costs])
        yield "-" if value is None else form.format(value) if form else format_size(round(value), binary=True)
