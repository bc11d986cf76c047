"""RESULTS.md: tables of the scores, training, commit and hardware."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from harmonifuse_espnet.common.experiment import update_run
from harmonifuse_espnet.evaluation.metrics import count_errors, label_scores, text_scores
from harmonifuse_espnet.evaluation.report import experiment_section, figure_links
from harmonifuse_espnet.evaluation.scores import read_scores

ASR = text_scores(count_errors({"a": "ONE TWO SIX", "b": "TEN"}, {"a": "ONE TOO SIX", "b": "TEN NOW"}))
SER = label_scores({"c": "ang", "d": "ang", "e": "sad"}, {"c": "ang", "d": "sad", "e": "sad"}, ["ang", "hap", "sad"])


def write_score(exp_dir: Path, name: str, tasks: dict[str, Any], leaks: dict[str, Any] | None = None) -> None:
    folder = exp_dir / name
    folder.mkdir(parents=True)
    content = {"test_set": folder.name, "utterances": 5, "tasks": tasks} | ({"leaks": leaks} if leaks else {})
    (folder / "score.json").write_text(json.dumps(content))


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    """An experiment with one test set of both tasks."""
    asr = {"answer": "text", "utterances": 2, "scores": {"llm": ASR, "ctc": ASR}}
    ser = {"answer": "label", "utterances": 3, "scores": {"llm": SER}}
    write_score(tmp_path / "exp" / "slm_small", "decode_greedy/test", {"asr": asr, "ser": ser})
    return tmp_path / "exp" / "slm_small"


def test_tables_have_espnet_s_format_and_known_scores(exp_dir: Path, tmp_path: Path) -> None:
    """4 words: 3 correct, 1 substituted, 1 inserted; ang 1/2 and sad 1/1 recalled, hap not in the reference."""
    text = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None)
    assert text.startswith("## exp/slm_small\n\n- training config: `exp/slm_small/config.yaml`\n\n### WER\n\n")
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|\n" in text
    assert "|decode_greedy/test (asr, llm)|2|4|75.0|25.0|0.0|25.0|50.0|100.0|\n" in text
    assert "|decode_greedy/test (asr, ctc)|2|4|75.0|25.0|0.0|25.0|50.0|100.0|\n" in text
    assert "|decode_greedy/test (asr, llm)|2|14|92.9|7.1|0.0|28.6|35.7|100.0|\n" in text  # characters
    assert "### SER\n\n|dataset|Snt|WA|UA|macro F1|recall ang|recall hap|recall sad|\n" in text
    assert "|decode_greedy/test (ser)|3|66.7|75.0|66.7|50.0|-|100.0|\n" in text
    assert "|reference \\ prediction|ang|hap|sad|\n|---|---|---|---|\n|**ang**|1|0|1|\n|**hap**|0|0|0|\n" in text


def test_every_scored_folder_has_its_row_in_order(exp_dir: Path, tmp_path: Path) -> None:
    asr = {"answer": "text", "utterances": 2, "scores": {"llm": ASR}}
    for name in ("decode_beam/test", "decode_greedy/dev"):
        write_score(exp_dir, name, {"asr": asr})
    scored = read_scores(exp_dir)
    assert [one.name for one in scored] == ["decode_beam/test", "decode_greedy/dev", "decode_greedy/test"]
    assert experiment_section(exp_dir, scored, tmp_path, None).count("(asr, llm)") == 2 * 3


def test_degenerate_hypotheses_and_shared_speakers_have_tables(exp_dir: Path, tmp_path: Path) -> None:
    """A test set that is decoded twice has one row of what it shares; an unchecked one has none."""
    plain = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None)
    assert "Degenerate" not in plain and "Shared" not in plain
    score = ASR | {"degenerate": {"empty": 3, "looping": 1, "over_long": 2}}
    none, all_three = {"shared": 0, "total": 3, "first": []}, {"shared": 3, "total": 3, "first": ["a", "b", "c"]}
    leaks = {"speakers": none, "sentences": all_three, "utterances": none}
    for name in ("decode_beam/test_an4", "decode_greedy/test_an4"):
        write_score(exp_dir, name, {"asr": {"answer": "text", "utterances": 2, "scores": {"llm": score}}}, leaks)
    write_score(exp_dir, "decode_greedy/test_more", {}, leaks | {"sentences": None})
    text = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None)
    assert (
        "### Degenerate hypotheses\n\n|dataset|Snt|empty|looping|over-long|\n|---|---|---|---|---|\n"
        "|decode_beam/test_an4 (asr, llm)|2|3|1|2|\n|decode_greedy/test_an4 (asr, llm)|2|3|1|2|\n"
    ) in text
    assert text.endswith(
        "### Shared with the training set\n\n|dataset|speakers|sentences|utterance ids|\n|---|---|---|---|\n"
        "|test_an4|0 of 3|3 of 3|0 of 3|\n|test_more|0 of 3|-|0 of 3|"
    )


def test_a_label_task_of_any_name_gets_a_section(tmp_path: Path) -> None:
    gender = label_scores({"c": "f", "d": "m"}, {"c": "f", "d": "m"}, ["f", "m"])
    write_score(
        tmp_path / "e", "decode_x/t", {"gender": {"answer": "label", "utterances": 2, "scores": {"llm": gender}}}
    )
    text = experiment_section(tmp_path / "e", read_scores(tmp_path / "e"), tmp_path, None)
    assert "### GENDER\n\n|dataset|Snt|WA|UA|macro F1|recall f|recall m|" in text
    assert "WER" not in text


def test_training_and_pre_training_are_described(exp_dir: Path, tmp_path: Path) -> None:
    update_run(exp_dir / "decode_greedy" / "test", parameters=1234567, trained_parameters=4567)
    epochs = {
        number: {
            "train": {"time": timedelta(seconds=150), "total_count": 2500 * number},
            "valid": {"time": timedelta(seconds=15)},
        }
        for number in (1, 2)
    }
    torch.save({"reporter": {"stats": epochs}}, exp_dir / "checkpoint.pth")
    text = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, tmp_path / "conf" / "train.yaml")
    assert "[conf/train.yaml](conf/train.yaml), in full `exp/slm_small/config.yaml`\n" in text
    assert "- parameters: 1,234,567, trained 4,567\n- training: 5.5 minutes, 5,000 steps, validation included\n" in text
    assert "pre-training" not in text

    encoder = exp_dir.with_name("encoder")
    encoder.mkdir()
    torch.save({"reporter": {"stats": {1: epochs[1]}}}, encoder / "checkpoint.pth")
    starts = [f"{encoder}/valid.acc.ave.pth:{part}:{part}" for part in ("frontend", "ctc")]
    (exp_dir / "config.yaml").write_text(json.dumps({"init_param": [*starts, "elsewhere/model.pth"]}))  # JSON is YAML
    text = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None)
    both = (
        "5,000 steps, validation included\n- pre-training, `encoder`: 2.8 minutes, 2,500 steps, validation included\n"
    )
    assert both in text and text.count("pre-training") == 1


def test_scores_of_version_0_1_give_the_same_tables(exp_dir: Path, tmp_path: Path) -> None:
    """In version 0.1, the sentence error rate is called ser, and the parameters are in selection.json."""
    update_run(exp_dir / "decode_greedy" / "test", parameters=1000, trained_parameters=10)
    text = experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None)
    path = exp_dir / "decode_greedy" / "test" / "score.json"
    old = path.read_text().replace('"sentence_error_rate"', '"ser"')
    assert old.count('"ser"') == 3  # two kinds of hypothesis, and the task
    path.write_text(old)
    path.with_name("run.json").unlink()
    counts = {"parameters": 1000, "trained_parameters": 10, "tasks": {}}
    path.with_name("selection.json").write_text(json.dumps(counts))
    assert experiment_section(exp_dir, read_scores(exp_dir), tmp_path, None) == text


@pytest.mark.bad_input
def test_missing_scores_and_invalid_files_are_named(exp_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no_such: no decode_.*score.json; run stages 7 and 8 first"):
        read_scores(tmp_path / "no_such")
    for content, message in (
        ('{"tasks"', ":1: not valid JSON: Expecting ':' delimiter; run stage 8 again"),
        (
            '{"tasks": {"asr": 1}}',
            """: not the scores that stage 8 writes (TypeError("'int' object is not subscriptable")); run it again""",
        ),
    ):
        path = exp_dir / "decode_greedy" / "test" / "score.json"
        path.write_text(content)
        with pytest.raises(ValueError) as error:
            read_scores(exp_dir)
        assert str(error.value) == f"{path}{message}"


def test_figure_links_are_relative(tmp_path: Path) -> None:
    text = figure_links([("curves", tmp_path / "images" / "a.png")], tmp_path)
    assert text == "### Figures\n\n![curves](images/a.png)"
