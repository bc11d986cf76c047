"""The answers of all runs of an ablation side by side: differences to the reference, and what significant of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from harmonifuse_espnet.ablation.runner import is_scored
from harmonifuse_espnet.ablation.significance import Difference, paired_difference, rates
from harmonifuse_espnet.ablation.spec import Ablation, Run, Variant
from harmonifuse_espnet.common.errors import InputError

NONE_SHOWN = "no difference shown"


@dataclass(frozen=True)
class Answers:
    """One run's answers to one task of a test set: a rate is ``sum(values) / sum(sizes)``.

    Attributes:
        measure: ``WER`` or ``UA``.
        ids: The utterances, sorted.
        values: (utterances,): errors, or the weight of a right label.
        sizes: (utterances,): words, or the weight of the label, 1 / (classes x utterances of the class).
    """

    measure: str
    ids: tuple[str, ...]
    values: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Row:
    """One variant in a comparison.

    Attributes:
        variant: Which.
        rates: Of its seeds that are there, in percent.
        difference: To the reference; None for the reference itself, and where one of them is missing.
        verdict: ``better`` or ``worse`` than the reference, ``no difference shown``, ``missing``, or ``-``.
    """

    variant: Variant
    rates: list[float]
    difference: Difference | None
    verdict: str

    @property
    def rate(self) -> str:
        """Mean and sample standard deviation over the seeds."""
        if not self.rates:
            return "-"
        return f"{mean(self.rates):.1f}" + (f" ± {stdev(self.rates):.1f}" if len(self.rates) > 1 else "")


@dataclass(frozen=True)
class Comparison:
    """All variants by one measure on one task of a test set, decoded in one way.

    Attributes:
        decode: The decoding configuration.
        test_set: The test set.
        task: The task.
        kind: What answered, such as ``llm`` or ``ctc``.
        measure: ``WER`` (less is better) or ``UA`` (more is better).
        utterances: How many were answered.
        rows: A row a variant, the reference first.
    """

    decode: Path
    test_set: str
    task: str
    kind: str
    measure: str
    utterances: int
    rows: list[Row]

    @property
    def name(self) -> str:
        """Such as ``WER of asr (llm) on test_an4``."""
        return f"{self.measure} of {self.task} ({self.kind}) on {self.test_set}"


def read_answers(path: Path) -> dict[tuple[str, str], Answers]:
    """The answers of one ``utterances.jsonl``, by task and kind.

    Raises:
        ValueError: if it is not what ``score`` writes.
    """
    entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            entries.setdefault((entry["task"], entry["kind"]), []).append(entry)
        return {key: _answers(found) for key, found in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not what stage 8 writes ({error!r}); run it again") from error


def compare(ablation: Ablation, runs: Iterable[Run]) -> list[Comparison]:
    """Every comparison that the scored runs allow, in the order of the ablation's decoding configurations and sets.

    Answers by an older model, or by a decoding configuration as it was before, count as missing.

    Raises:
        ValueError: if two runs answered different utterances of a test set.
    """
    runs, comparisons = list(runs), []
    for decode in ablation.decode:
        for test_set in ablation.test_sets:
            answers = _collect(runs, decode, test_set)
            for task, kind in dict.fromkeys(key for _, found in answers for key in found):
                found = [(run, answered[task, kind]) for run, answered in answers if (task, kind) in answered]
                one = found[0][1]
                rows = _rows(ablation, test_set, found)
                comparisons.append(Comparison(decode, test_set, task, kind, one.measure, len(one.ids), rows))
    return comparisons


def _answers(entries: Sequence[Mapping[str, Any]]) -> Answers:
    entries = sorted(entries, key=lambda entry: entry["id"])
    ids = tuple(entry["id"] for entry in entries)
    if "words" in entries[0]:
        values, sizes = ([entry[name] for entry in entries] for name in ("errors", "words"))
        return Answers("WER", ids, np.array(values, dtype=float), np.array(sizes, dtype=float))
    counts = Counter(entry["label"] for entry in entries)
    weights = np.array([1.0 / (len(counts) * counts[entry["label"]]) for entry in entries])
    return Answers("UA", ids, weights * [entry["right"] for entry in entries], weights)


def _collect(runs: Sequence[Run], decode: Path, test_set: str) -> list[tuple[Run, dict[tuple[str, str], Answers]]]:
    return [
        (run, read_answers(run.answers(decode, test_set) / "utterances.jsonl"))
        for run in runs
        if test_set in run.variant.test_sets and is_scored(run, decode, test_set)
    ]


def _rows(ablation: Ablation, test_set: str, answered: Sequence[tuple[Run, Answers]]) -> list[Row]:
    first_run, first = answered[0]
    by_variant: dict[str, list[np.ndarray]] = {}
    for run, answers in answered:
        if answers.ids != first.ids or not np.array_equal(answers.sizes, first.sizes):
            raise InputError(
                f"{run.exp_dir} and {first_run.exp_dir} answered different utterances of {test_set}: "
                f"{len(answers.ids)} and {len(first.ids)}, or others; decode and score both again"
            )
        by_variant.setdefault(run.variant.name, []).append(answers.values)
    reference = by_variant.get(ablation.reference.name)
    others = [each for each in ablation.variants if each != ablation.reference and test_set in each.test_sets]
    rows = []
    for variant in (ablation.reference, *others):
        values = by_variant.get(variant.name)
        found = rates(np.stack(values), first.sizes) if values else []
        difference = None
        if values and reference and variant != ablation.reference:
            difference = paired_difference(np.stack(values), np.stack(reference), first.sizes)
        rows.append(Row(variant, found, difference, _verdict(difference, first.measure, bool(values))))
    return rows


def _verdict(difference: Difference | None, measure: str, there: bool) -> str:
    if difference is None:
        return "-" if there else "missing"
    if not difference.significant:
        return NONE_SHOWN
    return "better" if (difference.value < 0) == (measure == "WER") else "worse"
