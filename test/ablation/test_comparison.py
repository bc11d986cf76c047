"""Comparisons: rates, differences and verdicts; missing runs; errors."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_recipe import SCORES, make_recipe, write_config, write_scores

from harmonifuse_espnet.ablation.comparison import Comparison, compare, read_utterances
from harmonifuse_espnet.ablation.significance import rates
from harmonifuse_espnet.ablation.spec import Ablation, Run, read_ablation
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.experiment import update_run
from harmonifuse_espnet.evaluation.metrics import label_scores

EXPDIR = Path("exp/ablation")
DECODE = "decode_valid.acc.ave"


@pytest.fixture(autouse=True)
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs except one seed of naive, decoded and scored."""
    monkeypatch.chdir(make_recipe(tmp_path / "slm1"))
    for run in SCORES:
        if run != "naive_seed2":
            score(run)


def score(run: str, errors: Sequence[int] | None = None, correct: Sequence[int] | None = None) -> None:
    """Write a model and its scores, by default those of the fake recipe."""
    if errors is None:
        errors, correct = SCORES[run]
    write_scores(EXPDIR / run / DECODE, errors, correct)
    (EXPDIR / run / "valid.acc.ave.pth").touch()
    os.utime(EXPDIR / run / "valid.acc.ave.pth", (0, 0))
    configs = {f"valid.acc.ave/{name}": {"beam_size": 1} for name in ("test_asr", "test_ser")}
    update_run(EXPDIR / run, decode_configs=configs)


@pytest.fixture
def ablation() -> Ablation:
    return read_ablation(Path("conf/ablation.yaml"))


def runs(ablation: Ablation) -> list[Run]:
    return ablation.runs(EXPDIR)


def by_variant(comparison: Comparison) -> dict[str, tuple[str, float | None, str]]:
    """Variant -> rate, difference, verdict."""
    return {
        row.variant.name: (row.rate, row.difference and round(row.difference.value, 6), row.verdict)
        for row in comparison.rows
    }


def test_rates_differences_and_verdicts_of_a_known_case(ablation: Ablation) -> None:
    """Ours has 20 errors in 400 words with either seed and 3 of 4 correct labels; naive 60 errors and 1 of 4."""
    wer, ua = compare(ablation, runs(ablation))
    assert (wer.name, wer.utterances, wer.speakers) == ("WER of asr (llm) on test_asr", 40, 10)
    assert by_variant(wer) == {
        "ours": ("5.0 ± 0.0", None, "-"),
        "asr_only": ("10.0", 5.0, "worse"),
        "naive": ("15.0", 10.0, "worse"),
        "same": ("5.0", 0.0, "no difference shown"),
    }
    assert (ua.name, ua.utterances, ua.speakers) == ("UA of ser (llm) on test_ser", 40, 10)
    assert by_variant(ua) == {
        "ours": ("75.0 ± 0.0", None, "-"),
        "naive": ("25.0", -50.0, "worse"),
        "same": ("75.0", 0.0, "no difference shown"),
    }


def test_fewer_errors_and_more_correct_labels_are_better(ablation: Ablation) -> None:
    score("naive_seed2", [0] * 40, [1] * 40)
    (EXPDIR / "naive_seed1" / "valid.acc.ave.pth").unlink()
    found = [by_variant(comparison)["naive"] for comparison in compare(ablation, runs(ablation))]
    assert found == [("0.0", -5.0, "better"), ("100.0", 25.0, "better")]


def test_p_values_are_corrected_for_the_differences_of_a_table(ablation: Ablation) -> None:
    """All ten speakers have more errors by asr_only and naive: 2 of 2^10 sign flips, times 3 and 2 differences."""
    wer, ua = compare(ablation, runs(ablation))
    found = [
        [(row.difference.p, row.difference.corrected_p) for row in each.rows if row.difference] for each in (wer, ua)
    ]
    assert found == [[(2 / 2**10, 6 / 2**10)] * 2 + [(1.0, 1.0)], [(2 / 2**10, 4 / 2**10), (1.0, 1.0)]]


def test_a_difference_that_is_significant_alone_may_not_be_among_others(ablation: Ablation) -> None:
    """Six speakers: p = 2 / 2^6 = 0.031 of naive, 0.094 among three differences."""
    for path in EXPDIR.glob(f"*/{DECODE}/test_asr/utterances.jsonl"):
        path.write_text(
            "".join(line for line in path.read_text().splitlines(True) if json.loads(line)["speaker"] < "v6")
        )
    wer, _ = compare(ablation, runs(ablation))
    assert wer.speakers == 6 and {row.verdict for row in wer.rows} == {"-", "no difference shown"}
    alone = [run for run in runs(ablation) if run.variant.name in ("ours", "naive")]
    assert by_variant(compare(ablation, alone)[0])["naive"][2] == "worse"


def test_missing_runs_are_marked_and_without_the_reference_there_is_no_difference(ablation: Ablation) -> None:
    present = [run for run in runs(ablation) if run.variant.name in ("asr_only", "naive")]
    wer, ua = compare(ablation, present)
    assert by_variant(wer)["ours"] == by_variant(wer)["same"] == ("-", None, "missing")
    assert by_variant(wer)["asr_only"] == ("10.0", None, "-")
    assert "asr_only" not in by_variant(ua)
    assert compare(ablation, []) == []


def test_scores_of_an_older_model_or_another_configuration_are_missing(ablation: Ablation) -> None:
    """One run has a newer model, one was decoded with another version of the configuration."""
    os.utime(EXPDIR / "naive_seed1" / "valid.acc.ave.pth", (2**32, 2**32))
    update_run(EXPDIR / "same_seed1", decode_configs={"valid.acc.ave/test_asr": {"beam_size": 4}})
    for comparison in compare(ablation, runs(ablation)):
        assert by_variant(comparison)["naive"] == by_variant(comparison)["same"] == ("-", None, "missing")
    write_config(Path(), "decode", {"beam_size": 2})
    assert compare(ablation, runs(ablation)) == []


def test_the_unweighted_accuracy_is_that_of_the_scores(tmp_path: Path) -> None:
    """Three of class ang, one of sad: correct 2 / 3 and 1 / 1."""
    references, hypotheses = ["ang", "ang", "ang", "sad"], ["ang", "sad", "ang", "sad"]
    speakers = ["v2", "v1", "v1", "v1"]
    lines = [
        {
            "id": str(index),
            "task": "ser",
            "kind": "llm",
            "speaker": speaker,
            "label": label,
            "correct": label == hypothesis,
        }
        for index, (speaker, label, hypothesis) in enumerate(zip(speakers, references, hypotheses, strict=True))
    ]
    (tmp_path / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_utterances(tmp_path / "utterances.jsonl")["ser", "llm"]
    assert found.utterances == [("0", "v2", "ang"), ("1", "v1", "ang"), ("2", "v1", "ang"), ("3", "v1", "sad")]
    assert found.values.tolist() == [[1, 1], [1, 0]] and found.sizes.tolist() == [[2, 1], [1, 0]]  # v1, v2; ang, sad
    pairs = [dict(enumerate(each)) for each in (references, hypotheses)]
    scores = label_scores(*[{str(key): label for key, label in each.items()} for each in pairs], ["ang", "sad"])
    assert rates(found.values[None], found.sizes) == [pytest.approx(scores["ua"])] == [pytest.approx(250 / 3)]


def test_the_errors_of_a_speaker_are_summed(tmp_path: Path) -> None:
    lines = [
        {"id": key, "task": "asr", "kind": "ctc", "speaker": speaker, "errors": errors, "words": words}
        for key, speaker, errors, words in [("c", "v1", 2, 3), ("a", "v1", 1, 4), ("b", "v0", 0, 5)]
    ]
    (tmp_path / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_utterances(tmp_path / "utterances.jsonl")["asr", "ctc"]
    assert (found.metric, found.utterances) == ("WER", [("a", "v1", 4), ("b", "v0", 5), ("c", "v1", 3)])
    assert found.values.tolist() == [[0], [3]] and found.sizes.tolist() == [[5], [7]]


def test_scores_without_speakers_are_refused(ablation: Ablation) -> None:
    """Versions 0.1 and before wrote no speakers, and ``right`` for ``correct``."""
    path = EXPDIR / "ours_seed1" / DECODE / "test_ser" / "utterances.jsonl"
    old = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in old:
        entry["right"] = entry.pop("correct")
        del entry["speaker"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in old))
    with pytest.raises(InputError) as error:
        compare(ablation, runs(ablation))
    assert str(error.value) == (
        f"{path}: utterance 's00' has no speaker, so an earlier version wrote these scores; run stage 8 again "
        "(./run.sh --stage 8 --stop_stage 8, with the run's --tag, --inference_tag, --test_sets and --results)"
    )


def test_another_speaker_of_an_utterance_is_refused(ablation: Ablation) -> None:
    path = EXPDIR / "same_seed1" / DECODE / "test_asr" / "utterances.jsonl"
    path.write_text(path.read_text().replace('"v9"', '"v8"', 1))
    with pytest.raises(InputError) as error:
        compare(ablation, runs(ablation))
    assert str(error.value) == (
        "exp/ablation/same_seed1 and exp/ablation/ours_seed1 have different utterances of test_asr: 40 and 40, with "
        "different ids, speakers or references; decode and score both again"
    )


def test_different_utterances_are_refused(ablation: Ablation) -> None:
    path = EXPDIR / "same_seed1" / DECODE / "test_asr" / "utterances.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="same_seed1 and .*ours_seed1 have different utterances of test_asr: 39 "):
        compare(ablation, runs(ablation))


def test_an_invalid_utterances_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "utterances.jsonl"
    label = {"id": "a", "speaker": "s", "task": "asr", "kind": "llm", "label": "ang", "correct": True}
    words = {"id": "b", "speaker": "s", "task": "asr", "kind": "llm", "errors": 1, "words": 2}
    for entries, message in (
        ([{"id": "a", "speaker": "s"}], ":1: not the score of an utterance: {'id': 'a', 'speaker': 's'}"),
        ([label, words], ": word errors and labels for the task 'asr'"),
    ):
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        with pytest.raises(ValueError) as error:
            read_utterances(path)
        assert str(error.value) == f"{path}{message}; run stage 8 again"
