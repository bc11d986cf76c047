"""A comparison as Markdown: a table for each measure, what they say in words, and the table of costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from humanfriendly import format_size

from harmonifuse_espnet.ablation.comparison import NONE_SHOWN, Comparison, Row
from harmonifuse_espnet.ablation.cost import Cost, mean_of, read_cost
from harmonifuse_espnet.ablation.spec import Ablation, Run, Variant, decode_tag
from harmonifuse_espnet.evaluation.markdown import link, table

READING = """\
Mean and standard deviation over the seeds, in percent. The difference to {reference} is in percentage points, with its
95 % interval (paired bootstrap over the test utterances, each of which counts with its mean over the seeds) and the
p-value of the matched-pairs test (random sign flips). A difference is significant if p < 0.05, the interval excludes
0, and it is larger than the seeds' spread, sqrt(sd² + sd²), where a variant of one seed is taken to spread as
{reference} does.
The p-values are not corrected for the number of rows."""
COSTS = """\
Means over the seeds. *Audio* is the audio of all training batches (rebuilt from seed and epoch; before speed
perturbation) over the time of the training epochs; *minutes* include validation; *memory* is the peak of the largest
training process, or the GPU's; *RTF* is the model's time over the audio's, decoding with `{decode}`; *jobs* is how many
runs shared the machine."""
COST_HEADER = ("variant", "parameters", "trained", "audio (s/s)", "minutes", "memory", "RTF", "jobs")


def comparison_tables(ablation: Ablation, comparisons: Sequence[Comparison]) -> str:
    """A section a way of decoding, with a table for each test set, task and measure."""
    parts = ["## Comparison", READING.format(reference=ablation.reference.title)]
    for decode in ablation.decode:
        chosen = [comparison for comparison in comparisons if comparison.decode == decode]
        parts += [f"### decode_{decode_tag(decode)}"] if chosen else []
        for comparison in chosen:
            header = (
                "variant",
                "seeds",
                comparison.measure,
                f"difference to {ablation.reference.title}",
                "p",
                "verdict",
            )
            caption = f"{comparison.name}, {comparison.utterances} utterances:"
            parts += [caption, table(header, [_cells(row) for row in comparison.rows])]
    return "\n\n".join(parts)


def in_words(ablation: Ablation, comparisons: Sequence[Comparison]) -> str:
    """What the ablation is about, and how its reference compares with each variant (first decoding configuration)."""
    main = [comparison for comparison in comparisons if comparison.decode == ablation.decode[0]]
    others = [each for each in ablation.variants if each not in (ablation.reference, *ablation.baselines)]
    alike = [each for each in others if {row.verdict for _, row in _rows(each, main)} == {NONE_SHOWN}]
    lines = [
        f"- {ablation.reference.title} against {each.title}: {_standing(_rows(each, main))}."
        for each in (*ablation.baselines, *others)
        if each not in alike
    ]
    if alike:
        lines.append(f"- No difference shown on any measure against {_list([each.title for each in alike])}.")
    said = [ablation.about, f"Decoding with `{ablation.decode[0]}`:", "\n".join(lines)]
    return "\n\n".join(["## In words", *filter(None, said)])


def cost_table(ablation: Ablation, runs: Sequence[Run], out_dir: Path) -> str:
    """What the variants cost; each is linked to its configuration."""
    decode, rows = ablation.decode[0], []
    for variant in ablation.variants:
        costs = [
            cost
            for run in runs
            if run.variant == variant and (cost := read_cost(run.exp_dir, f"decode_{decode_tag(decode)}"))
        ]
        rows.append([link(variant.config, out_dir, variant.title), *_cost_cells(costs)])
    return "\n\n".join(["## Cost", COSTS.format(decode=decode), table(COST_HEADER, rows)])


def _cells(row: Row) -> list[str]:
    seeds = str(len(row.rates)) if len(row.rates) == row.variant.seeds else f"{len(row.rates)} of {row.variant.seeds}"
    if row.difference is None:
        return [row.variant.title, seeds, row.rate, "-", "-", row.verdict]
    value, low, high, p = (getattr(row.difference, name) for name in ("value", "low", "high", "p"))
    return [
        row.variant.title,
        seeds,
        row.rate,
        f"{value:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"{p:.3f}" if p >= 0.001 else "< 0.001",
        row.verdict,
    ]


def _rows(variant: Variant, comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Row]]:
    """A variant's row in each comparison that it takes part in."""
    return [(each, row) for each in comparisons for row in each.rows if row.variant == variant]


def _standing(rows: Sequence[tuple[Comparison, Row]]) -> str:
    """The reference's standing, with both rates: better where the variant is worse."""
    said = {"worse": "better in", "better": "worse in", NONE_SHOWN: "no difference shown in"}
    groups = []
    for verdict, words in said.items():
        found = [(each, row) for each, row in rows if row.verdict == verdict]
        named = [f"{each.name} ({each.rows[0].rate} against {row.rate})" for each, row in found]
        groups += [f"{words} {_list(named)}"] if named else []
    missing = [each.name for each, row in rows if row.difference is None]
    return "; ".join([*groups, *([f"not compared in {_list(missing)}"] if missing or not groups else [])])


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "anything"


def _cost_cells(costs: Sequence[Cost]) -> Iterator[str]:
    formats = {
        "parameters": "{:,.0f}",
        "trained": "{:,.0f}",
        "audio_rate": "{:.0f}",
        "minutes": "{:.1f}",
        "memory": None,
        "rtf": "{:.3f}",
        "jobs": "{:.0f}",
    }
    for name, form in formats.items():
        value = mean_of([getattr(cost, name) for cost in costs])
        yield "-" if value is None else form.format(value) if form else format_size(round(value), binary=True)
