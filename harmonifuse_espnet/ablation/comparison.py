"""Comparison of the runs of an ablation: rates, differences to the reference, and which of them are significant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from harmonifuse_espnet.ablation.significance import Difference, holm, paired_difference, rates
from harmonifuse_espnet.ablation.spec import Ablation, Run, Variant
from harmonifuse_espnet.ablation.status import is_scored
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.evaluation.scores import read_utterance_scores

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class SpeakerScores:
    """The scores of a run on one task of a test set, by speaker; :func:`rates` has the formula of the rate.

    Attributes:
        metric: ``WER`` or ``UA``.
        utterances: Id, speaker, and number of words or label of each utterance, sorted.
        values: Number of word errors; or, of a label task, of correct utterances by label (speakers, classes).
        sizes: Number of words; or, of a label task, of utterances by label (speakers, classes).
    """

    metric: str
    utterances: list[tuple[str, str, int | str]]
    values: np.ndarray
    sizes: np.ndarray


ScoresByTask = dict[tuple[str, str], SpeakerScores]  # (task, kind of hypothesis) -> scores


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
        speakers: Number of speakers, the units of the significance tests.
        rows: One row for each variant, the reference first.
    """

    decode: Path
    test_set: str
    task: str
    kind: str
    metric: str
    utterances: int
    speakers: int
    rows: list[Row]

    @property
    def name(self) -> str:
        """Title, such as ``WER of asr (llm) on test_an4``."""
        return f"{self.metric} of {self.task} ({self.kind}) on {self.test_set}"


def read_utterances(path: Path) -> ScoresByTask:
    """Read an ``utterances.jsonl``.

    Raises:
        InputError: if it is not valid, has no speakers (files of earlier versions), or has two metrics for a task.
    """
    entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in read_utterance_scores(path):
        entries.setdefault((entry["task"], entry["kind"]), []).append(entry)
    for (task, _), found in entries.items():
        if len({"label" in entry for entry in found}) > 1:
            raise InputError(f"{path}: word errors and labels for the task {quote(task)}; run stage 8 again")
    return {key: _speaker_scores(found) for key, found in entries.items()}


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
                counts = len(first.utterances), len(first.sizes)
                comparisons.append(Comparison(decode, test_set, task, kind, first.metric, *counts, rows))
    return comparisons


def _speaker_scores(entries: Sequence[Mapping[str, Any]]) -> SpeakerScores:
    metric, reference, value = ("WER", "words", "errors") if "words" in entries[0] else ("UA", "label", "correct")
    utterances = sorted((entry["id"], entry["speaker"], entry[reference]) for entry in entries)
    speakers = _numbered({entry["speaker"] for entry in entries})
    classes = _numbered({entry["label"] for entry in entries}) if metric == "UA" else {"words": 0}
    values, sizes = np.zeros((2, len(speakers), len(classes)))
    for entry in entries:
        cell = speakers[entry["speaker"]], classes[entry.get("label", "words")]
        values[cell] += entry[value]
        sizes[cell] += entry.get("words", 1)
    return SpeakerScores(metric, utterances, values, sizes)


def _numbered(names: set[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(names))}


def _read_scored(runs: Sequence[Run], decode: Path, test_set: str) -> list[tuple[Run, ScoresByTask]]:
    return [
        (run, read_utterances(run.decode_dir(decode, test_set).utterances))
        for run in runs
        if test_set in run.variant.test_sets and is_scored(run, decode, test_set)
    ]


def _rows(ablation: Ablation, test_set: str, scored: Sequence[tuple[Run, SpeakerScores]]) -> list[Row]:
    _check_same_utterances(test_set, scored)
    first = scored[0][1]
    by_variant: dict[str, list[np.ndarray]] = {}
    for run, scores in scored:
        by_variant.setdefault(run.variant.name, []).append(scores.values)
    others = [each for each in ablation.variants if each != ablation.reference and test_set in each.test_sets]
    variants = [ablation.reference, *others]
    found = {variant: np.stack(by_variant[variant.name]) for variant in variants if variant.name in by_variant}
    differences = _differences(ablation.reference, found, first.sizes)
    return [
        Row(
            variant,
            rates(found[variant], first.sizes) if variant in found else [],
            differences.get(variant),
            _verdict(differences.get(variant), first.metric, variant in found),
        )
        for variant in variants
    ]


def _differences(
    reference: Variant, values: Mapping[Variant, np.ndarray], sizes: np.ndarray
) -> dict[Variant, Difference]:
    """Return the difference of each other variant to the reference; the p-values are corrected for their number."""
    if reference not in values:
        return {}
    others = [variant for variant in values if variant != reference]
    found = [paired_difference(values[variant], values[reference], sizes) for variant in others]
    corrected = holm([difference.p for difference in found])
    return {
        variant: replace(difference, corrected_p=p)
        for variant, difference, p in zip(others, found, corrected, strict=True)
    }


def _check_same_utterances(test_set: str, scored: Sequence[tuple[Run, SpeakerScores]]) -> None:
    first_run, first = scored[0]
    for run, scores in scored:
        if scores.utterances != first.utterances:
            counts = f"{len(scores.utterances)} and {len(first.utterances)}"
            raise InputError(
                f"{run.exp_dir} and {first_run.exp_dir} have different utterances of {test_set}: {counts}, with "
                "different ids, speakers or references; decode and score both again"
            )


def _verdict(difference: Difference | None, metric: str, is_scored: bool) -> str:
    if difference is None:
        return "-" if is_scored else "missing"
    if not difference.significant:
        return NO_DIFFERENCE
    return "better" if (difference.value < 0) == (metric == "WER") else "worse"
