"""Comparison of the runs of an ablation: rates, differences to the reference, and which of them are significant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from harmonifuse_espnet.ablation.significance import Difference, paired_difference, rates
from harmonifuse_espnet.ablation.spec import Ablation, Run, Variant
from harmonifuse_espnet.ablation.status import is_scored
from harmonifuse_espnet.common.errors import InputError

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class ScoredUtterances:
    """The scores of a run on one task of a test set, by utterance; the rate is ``sum(values) / sum(sizes)``.

    Attributes:
        metric: ``WER`` or ``UA``.
        ids: Utterance ids, sorted.
        values: Number of word errors; or, of a label task, the size if the label is correct, else 0 (utterances,).
        sizes: Number of words; or, of a label task, 1 / (classes x utterances of the class) (utterances,).
    """

    metric: str
    ids: tuple[str, ...]
    values: np.ndarray
    sizes: np.ndarray


ScoresByTask = dict[tuple[str, str], ScoredUtterances]  # (task, kind of hypothesis) -> scores


@dataclass(frozen=True)
class Row:
    """One variant in a comparison.

    Attributes:
        rates: Rates of its scored seeds, in percent.
        difference: Difference to the reference; None for the reference itself, or if either is not scored.
        verdict: ``better`` or ``worse`` than the reference, ``no difference shown``, ``missing`` if it
            is not scored, or ``-`` without a difference.
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
    """Comparison of all variants by one metric, for one task, test set and decoding configuration.

    Attributes:
        kind: Kind of hypothesis: ``llm`` or ``ctc``.
        metric: ``WER`` (less is better) or ``UA`` (more is better).
        rows: One row for each variant, the reference first.
    """

    decode: Path
    test_set: str
    task: str
    kind: str
    metric: str
    utterances: int
    rows: list[Row]

    @property
    def name(self) -> str:
        """Title, such as ``WER of asr (llm) on test_an4``."""
        return f"{self.metric} of {self.task} ({self.kind}) on {self.test_set}"


def read_utterances(path: Path) -> ScoresByTask:
    """Read an ``utterances.jsonl``.

    Raises:
        InputError: if it is not valid.
    """
    entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "right" in entry:  # name of "correct" before 0.2.0
                entry["correct"] = entry.pop("right")
            entries.setdefault((entry["task"], entry["kind"]), []).append(entry)
        return {key: _scored_utterances(found) for key, found in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the scores that stage 8 writes ({error!r}); run it again") from error


def compare(ablation: Ablation, runs: Iterable[Run]) -> list[Comparison]:
    """Return all comparisons of the scored runs, in the order of the ablation's decoding configurations and test sets.

    Scores of an older model, or of another version of the decoding configuration, count as missing.

    Raises:
        InputError: if two runs have different utterances of a test set.
    """
    runs, comparisons = list(runs), []
    for decode in ablation.decode:
        for test_set in ablation.test_sets:
            scored = _read_scored(runs, decode, test_set)
            for task, kind in dict.fromkeys(key for _, scores in scored for key in scores):
                found = [(run, scores[task, kind]) for run, scores in scored if (task, kind) in scores]
                first = found[0][1]
                rows = _rows(ablation, test_set, found)
                comparisons.append(Comparison(decode, test_set, task, kind, first.metric, len(first.ids), rows))
    return comparisons


def _scored_utterances(entries: Sequence[Mapping[str, Any]]) -> ScoredUtterances:
    entries = sorted(entries, key=lambda entry: entry["id"])
    ids = tuple(entry["id"] for entry in entries)
    if "words" in entries[0]:
        values, sizes = ([entry[name] for entry in entries] for name in ("errors", "words"))
        return ScoredUtterances("WER", ids, np.array(values, dtype=float), np.array(sizes, dtype=float))
    counts = Counter(entry["label"] for entry in entries)
    weights = np.array([1.0 / (len(counts) * counts[entry["label"]]) for entry in entries])
    return ScoredUtterances("UA", ids, weights * [entry["correct"] for entry in entries], weights)


def _read_scored(runs: Sequence[Run], decode: Path, test_set: str) -> list[tuple[Run, ScoresByTask]]:
    return [
        (run, read_utterances(run.decode_dir(decode, test_set).utterances))
        for run in runs
        if test_set in run.variant.test_sets and is_scored(run, decode, test_set)
    ]


def _rows(ablation: Ablation, test_set: str, scored: Sequence[tuple[Run, ScoredUtterances]]) -> list[Row]:
    _check_same_utterances(test_set, scored)
    first = scored[0][1]
    by_variant: dict[str, list[np.ndarray]] = {}
    for run, scores in scored:
        by_variant.setdefault(run.variant.name, []).append(scores.values)
    reference = by_variant.get(ablation.reference.name)
    others = [each for each in ablation.variants if each != ablation.reference and test_set in each.test_sets]
    rows = []
    for variant in (ablation.reference, *others):
        values = by_variant.get(variant.name)
        found = rates(np.stack(values), first.sizes) if values else []
        difference = None
        if values and reference and variant != ablation.reference:
            difference = paired_difference(np.stack(values), np.stack(reference), first.sizes)
        rows.append(Row(variant, found, difference, _verdict(difference, first.metric, bool(values))))
    return rows


def _check_same_utterances(test_set: str, scored: Sequence[tuple[Run, ScoredUtterances]]) -> None:
    first_run, first = scored[0]
    for run, scores in scored:
        if scores.ids != first.ids or not np.array_equal(scores.sizes, first.sizes):
            raise InputError(
                f"{run.exp_dir} and {first_run.exp_dir} have different utterances of {test_set}: {len(scores.ids)} and "
                f"{len(first.ids)}, with different ids or references; decode and score both again"
            )


def _verdict(difference: Difference | None, metric: str, is_scored: bool) -> str:
    if difference is None:
        return "-" if is_scored else "missing"
    if not difference.significant:
        return NO_DIFFERENCE
    return "better" if (difference.value < 0) == (metric == "WER") else "worse"
