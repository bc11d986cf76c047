"""write_results: one file with figures beside it; a second call gives the same bytes, except for the date."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_events

from harmonifuse_espnet.bin.write_results import main
from harmonifuse_espnet.common.experiment import DecodeDir, read_run, update_run
from harmonifuse_espnet.evaluation.figures import component_gates, draw_figures, layer_weights
from harmonifuse_espnet.evaluation.metrics import count_errors, label_scores, text_scores
from harmonifuse_espnet.evaluation.scores import ScoredSet
from harmonifuse_espnet.inference.gate_trace import GateTrace

ASR = text_scores(count_errors({"a": "ONE TWO"}, {"a": "ONE TOO"}))
SER = label_scores({"c": "ang", "d": "sad"}, {"c": "ang", "d": "ang"}, ["ang", "sad"])
GATE = GateTrace("a", "asr", "WRITE", "ONE TOO", 0.04, [0.5, 0.6], [0.1, 0.1], [0.9, 0.9], {}, [[-9, -90], [-5, -50]])
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    """An experiment of two epochs of 100 steps with all files of training, decoding and scoring."""
    exp_dir = tmp_path / "exp" / "slm"
    nan = float("nan")
    train = {
        "loss_asr": [(50, 9.0), (100, 5.0), (100, 4.0), (150, 3.0), (200, 2.0)],
        "acc_asr": [(100, 0.5), (200, nan)],
    }
    write_events(exp_dir / "tensorboard" / "train", train)
    valid = {"loss_asr": [(100, 4.5), (200, 2.5)], "loss_ctc_asr": [(100, 7.0), (200, 1.0)], "acc_asr": [(200, 0.7)]}
    write_events(exp_dir / "tensorboard" / "valid", valid)
    folder = exp_dir / "decode_greedy" / "test"
    folder.mkdir(parents=True)
    asr = {"answer": "text", "utterances": 1, "scores": {"llm": ASR}}
    ser = {"answer": "label", "utterances": 2, "scores": {"llm": SER}}
    (folder / "score.json").write_text(
        json.dumps({"test_set": "test", "utterances": 3, "tasks": {"asr": asr, "ser": ser}})
    )
    weights = {task: {"layer_weights": [0.1, 0.9], "fusion_weights": [0.5, 0.5]} for task in ("asr", "ser")}
    update_run(folder, parameters=10, trained_parameters=7, tasks=weights)
    gates = [asdict(GATE), asdict(replace(GATE, task="ser"))]
    (folder / "gate.json").write_text(json.dumps(gates))
    return exp_dir


def test_results_and_figures_are_written_and_linked(
    exp_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "RESULTS.md"
    main(["--exp_dir", str(exp_dir), "--out", str(out), "--train_config", str(tmp_path / "conf/train.yaml")])
    text = out.read_text()
    assert capsys.readouterr().out == text
    assert text.startswith("# RESULTS\n")
    assert "[conf/train.yaml](conf/train.yaml)" in text
    assert str(tmp_path) not in text
    links = re.findall(r"!\[.+\]\((.+)\)", text)
    drawn = ["training_curves.png", "confusion_ser_decode_greedy_test.png"]
    drawn += ["layer_weights_decode_greedy.png", "gate_decode_greedy.png"]
    assert links == [f"images/slm_{name}" for name in drawn]
    for name in drawn:
        assert (tmp_path / "images" / f"slm_{name}").read_bytes() == (exp_dir / "images" / name).read_bytes()
        assert (exp_dir / "images" / name).read_bytes().startswith(PNG)


def test_the_figures_are_written_to_tensorboard_once(exp_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        main(["--exp_dir", str(exp_dir), "--out", str(tmp_path / "RESULTS.md")])
    captions = re.findall(r"!\[(.+)\]", (tmp_path / "RESULTS.md").read_text())
    folder = exp_dir / "tensorboard" / "figures"
    tags = EventAccumulator(str(folder)).Reload().Tags()["images"]
    assert sorted(tags) == sorted(captions) and len(tags) == 4
    assert len(list(folder.iterdir())) == 1


def test_the_curves_of_pre_training_are_shown_too(exp_dir: Path, tmp_path: Path) -> None:
    encoder = exp_dir.with_name("encoder")
    shutil.copytree(exp_dir / "tensorboard", encoder / "tensorboard")
    (encoder / "checkpoint.pth").touch()
    (exp_dir / "config.yaml").write_text(f"init_param: ['{encoder}/valid.acc.ave.pth:frontend:frontend']\n")
    curves = [(caption, path.name) for caption, path in draw_figures(exp_dir, [])]
    own, other = "training_curves.png", "training_curves_encoder.png"
    assert curves == [("training curves of slm", own), ("training curves of encoder", other)]
    assert (exp_dir / "images" / other).read_bytes().startswith(PNG)


def test_an_experiment_without_tensorboard_or_gate_has_no_such_figures(exp_dir: Path, tmp_path: Path) -> None:
    shutil.rmtree(exp_dir / "tensorboard")
    (exp_dir / "decode_greedy" / "test" / "gate.json").unlink()
    main(["--exp_dir", str(exp_dir), "--out", str(tmp_path / "RESULTS.md")])
    assert not (exp_dir / "tensorboard").exists()
    drawn = {"slm_confusion_ser_decode_greedy_test.png", "slm_layer_weights_decode_greedy.png"}
    assert {path.name for path in (tmp_path / "images").iterdir()} == drawn


def test_a_second_call_gives_the_same_bytes_except_for_the_date(exp_dir: Path, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        main(["--exp_dir", str(exp_dir), "--out", str(tmp_path / "RESULTS.md")])
        text = re.sub("- date: .*", "", (tmp_path / "RESULTS.md").read_text())
        runs.append([text, *(path.read_bytes() for path in sorted((tmp_path / "images").iterdir()))])
    assert runs[0] == runs[1]


def test_two_experiments_are_written_to_one_file(exp_dir: Path, tmp_path: Path) -> None:
    other = exp_dir.with_name("naive")
    (other / "decode_greedy" / "test").mkdir(parents=True)
    score = (exp_dir / "decode_greedy" / "test" / "score.json").read_text()
    (other / "decode_greedy" / "test" / "score.json").write_text(score)
    main(["--exp_dir", str(exp_dir), "--exp_dir", str(other), "--out", str(tmp_path / "RESULTS.md")])
    text = (tmp_path / "RESULTS.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["Environments", "exp/slm", "exp/naive"]
    assert "images/naive_confusion_ser_decode_greedy_test.png" in text
    assert "images/naive_training_curves.png" not in text


def test_one_config_for_two_experiments_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--exp_dir", "a", "--exp_dir", "b", "--train_config", "c", "--out", str(tmp_path / "R.md")])
    assert "expected 2 --train_config or none, got 1" in capsys.readouterr().err


def test_results_of_folds_have_their_mean_and_the_figures_of_each(exp_dir: Path, tmp_path: Path) -> None:
    score = (exp_dir / "decode_greedy" / "test" / "score.json").read_text()
    for fold, recall in ((1, 100.0), (2, 50.0)):
        folder = tmp_path / "exp" / f"fold{fold}" / "slm" / "decode_greedy" / "test"
        folder.mkdir(parents=True)
        content = json.loads(score)
        content["tasks"]["ser"]["scores"]["llm"] |= {"ua": recall}
        (folder / "score.json").write_text(json.dumps(content))
    (tmp_path / "exp" / "fold3" / "slm").mkdir(parents=True)  # not scored yet
    options = ["--train_config", str(tmp_path / "conf.yaml"), "--out", str(tmp_path / "RESULTS.md")]
    main(["--folds", str(tmp_path / "exp" / "fold*" / "slm"), *options])
    text = (tmp_path / "RESULTS.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE)[1:] == ["Mean of 2 folds", "exp/fold1/slm", "exp/fold2/slm"]
    assert "|decode_greedy/test (ser)|UA|75.0|35.4|2|\n" in text  # 100 and 50: sd 50 / sqrt(2)
    assert "images/fold1_slm_confusion_ser_decode_greedy_test.png" in text
    assert "images/fold2_slm_confusion_ser_decode_greedy_test.png" in text


def test_folds_without_scores_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["--folds", str(tmp_path / "fold*"), "--out", str(tmp_path / "RESULTS.md")])
    assert "none of 0 experiments is scored; run stages 7 and 8" in capsys.readouterr().err


def test_without_scores_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["--exp_dir", str(tmp_path / "exp"), "--out", str(tmp_path / "RESULTS.md")])
    assert "run stages 7 and 8 first" in capsys.readouterr().err
    assert not (tmp_path / "RESULTS.md").exists()


def test_files_of_version_0_1_give_the_same_results(exp_dir: Path, tmp_path: Path) -> None:
    """In version 0.1, weights are in selection.json, the sentence error rate is ser, figures are pictures."""

    def write() -> list[str | bytes]:
        main(["--exp_dir", str(exp_dir), "--out", str(tmp_path / "RESULTS.md")])
        text = re.sub("- date: .*", "", (tmp_path / "RESULTS.md").read_text())
        return [text, *(path.read_bytes() for path in sorted((tmp_path / "images").iterdir()))]

    new, folder = write(), exp_dir / "decode_greedy" / "test"
    (folder / "selection.json").write_text(json.dumps(read_run(folder)))
    (folder / "run.json").unlink()
    scores = (folder / "score.json").read_text().replace('"sentence_error_rate"', '"ser"')
    (folder / "score.json").write_text(scores)
    (exp_dir / "tensorboard" / "figures").rename(exp_dir / "tensorboard" / "pictures")
    assert write() == new and "- parameters: 10, trained 7\n" in str(new[0])
    assert {path.name for path in (exp_dir / "tensorboard").iterdir()} == {"train", "valid", "figures"}


def scored_set(test_set: str, weights: dict[str, Any], exp_dir: Path = Path("exp")) -> ScoredSet:
    return ScoredSet(DecodeDir(exp_dir / "decode_x" / test_set), {}, weights)


def test_a_task_has_one_row_unless_its_weights_differ_by_test_set() -> None:
    def scored(test_set: str, weights: list[float]) -> ScoredSet:
        return scored_set(test_set, {"asr": {"layer_weights": weights, "fusion_weights": None}})

    same = layer_weights([scored("dev", [0.2, 0.8]), scored("test", [0.2, 0.8])])
    assert same == {"speech encoder": {"asr": [0.2, 0.8]}}
    other = layer_weights([scored("dev", [0.2, 0.8]), scored("test", [0.5, 0.5])])
    assert other == {"speech encoder": {"asr": [0.2, 0.8], "asr, test": [0.5, 0.5]}}
    assert layer_weights([scored_set("dev", {})]) == {}


def test_a_task_has_a_row_for_each_prompt_unless_all_have_the_same_weights() -> None:
    def weights(encoder: float, lm: float) -> dict[str, list[float]]:
        return {"layer_weights": [encoder, 1 - encoder], "fusion_weights": [lm, 1 - lm]}

    entry = {
        **weights(0.2, 0.3),
        "wordings": {"WRITE": weights(0.2, 0.3), "SPELL": weights(0.2001, 0.4), "TYPE": weights(0.2, 0.5)},
        "held_out": ["TYPE"],
    }
    assert layer_weights([scored_set(name, {"asr": entry}) for name in ("dev", "test")]) == {
        "speech encoder": {"asr": [0.2, 0.8]},
        "language model": {"asr: WRITE": [0.3, 0.7], "asr: SPELL": [0.4, 0.6], "asr: TYPE (held out)": [0.5, 0.5]},
    }


def test_the_gate_of_a_task_is_that_of_the_first_test_set_with_the_task(tmp_path: Path) -> None:
    sets = {"a": [GATE], "b": [replace(GATE, utterance="later"), replace(GATE, task="ser")], "c": []}
    for name, traces in sets.items():
        (tmp_path / "decode_x" / name).mkdir(parents=True)
        (tmp_path / "decode_x" / name / "gate.json").write_text(json.dumps([asdict(trace) for trace in traces]))
    found = component_gates([scored_set(name, {}, tmp_path) for name in [*sets, "d"]])
    assert [(trace.task, trace.utterance) for trace in found] == [("asr", "a"), ("ser", "a")]
