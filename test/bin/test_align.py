"""Forced alignment of a dump folder: word boundaries, resuming, and errors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny import Recipe, noise

from harmonifuse_espnet.bin.align import main
from harmonifuse_espnet.data.alignment import CTM, read_ctm
from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.inference import ctc_alignment
from harmonifuse_espnet.inference.align import PARTIAL
from harmonifuse_espnet.inference.speech2text import Speech2Text

TEXTS = {"u1": "ONE TWO", "u2": "THREE", "u3": "FOUR ONE ONE", "u4": "TWO FOUR"}
SECONDS = {"u1": 1.5, "u2": 1.0, "u3": 2.0, "u4": 1.7, "short": 0.3, "angry": 1.0}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def experiment(recipe: Recipe) -> Path:
    return recipe.train("exp")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Write a dump folder: four utterances, one that is too short for its words, one of a task with labels."""
    rows = [(key, text, "asr") for key, text in TEXTS.items()] + [
        ("short", "ONE TWO THREE", "asr"),
        ("angry", "ang", "ser"),
    ]
    folder = tmp_path / "train"
    folder.mkdir()
    for seed, (key, seconds) in enumerate(SECONDS.items()):
        soundfile.write(folder / f"{key}.wav", noise(round(16000 * seconds), seed), 16000)
    write_datadir(folder, [Utterance(key, str(folder / f"{key}.wav"), text, "spk", task) for key, text, task in rows])
    lines = "".join(f"{key} {round(16000 * seconds)}\n" for key, seconds in sorted(SECONDS.items()))
    (folder / "utt2num_samples").write_text(lines)
    return folder


@pytest.fixture
def any_transcript(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept alignments whatever the word error rate: the model is hardly trained."""
    monkeypatch.setattr(ctc_alignment, "MAX_WER", float("inf"))


def align(experiment: Path, data_dir: Path, *options: str) -> None:
    model = ["--train_config", str(experiment / "config.yaml"), "--model_file", str(experiment / "valid.loss.ave.pth")]
    main([*model, "--data_dir", str(data_dir), *options])


@pytest.mark.usefixtures("any_transcript")
def test_every_word_has_a_start_and_an_end(
    experiment: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(experiment, data_dir)
    found = read_ctm(data_dir / CTM)
    assert {key: " ".join(word.text for word in words) for key, words in found.items()} == TEXTS
    for key, words in found.items():
        assert words[0].start == 0 and words[-1].end == pytest.approx(SECONDS[key])
        assert [word.end for word in words[:-1]] == pytest.approx([word.start for word in words[1:]])
    assert f"{data_dir / CTM}: 8 words of 4 utterances; 1 not aligned" in capsys.readouterr().out
    assert not (data_dir / PARTIAL).exists()


@pytest.mark.usefixtures("any_transcript")
def test_a_ctm_is_kept_for_the_same_data_and_model_and_replaced_for_others(
    experiment: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(experiment: Path) -> str:
        align(experiment, data_dir)
        return capsys.readouterr().out

    assert "8 words of 4" in call(experiment) and call(experiment) == f"{data_dir / CTM}: up to date\n"
    for name in ("text", "wav.scp"):
        (data_dir / name).write_text((data_dir / name).read_text())  # as stage 2 does when it runs again
    (data_dir / "ctm.partial.jsonl").touch()  # a call was killed before it removed this file
    assert call(experiment) == f"{data_dir / CTM}: up to date\n"
    assert not list(data_dir.glob("*.partial.jsonl"))
    (data_dir / "text").write_text((data_dir / "text").read_text().replace("THREE\n", "FOUR\n"))
    assert "8 words of 4" in call(experiment)
    assert read_ctm(data_dir / CTM)["u2"][0].text == "FOUR"
    assert "8 words of 4" in call(shutil.copytree(experiment, tmp_path / "another"))


@pytest.mark.usefixtures("any_transcript")
def test_the_ctm_does_not_depend_on_the_batch_size(experiment: Path, data_dir: Path) -> None:
    align(experiment, data_dir, "--batch_size", "1")
    single = (data_dir / CTM).read_text()
    (data_dir / CTM).unlink()
    align(experiment, data_dir)
    assert (data_dir / CTM).read_text() == single


@pytest.mark.usefixtures("any_transcript")
def test_an_interrupted_call_is_resumed(experiment: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    align(experiment, data_dir)
    expected = (data_dir / CTM).read_text()
    (data_dir / CTM).unlink()
    original, batches = ctc_alignment.ctc_peak_times, []

    def ctc_peak_times(model: Speech2Text, speech: Any, tasks: Any, texts: Any) -> Any:
        batches.append(len(texts))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return original(model, speech, tasks, texts)

    monkeypatch.setattr(ctc_alignment, "ctc_peak_times", ctc_peak_times)
    with pytest.raises(KeyboardInterrupt):
        align(experiment, data_dir, "--batch_size", "2")
    assert not (data_dir / CTM).exists()
    align(experiment, data_dir, "--batch_size", "2")
    assert batches == [2, 2, 2, 1] and (data_dir / CTM).read_text() == expected


def test_a_model_without_a_ctc_head_is_refused(
    recipe: Recipe, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        align(recipe.train("no_ctc", ctc="false"), data_dir)
    assert "no CTC head, which the alignment needs; align with another model" in capsys.readouterr().err


def test_a_model_with_a_high_word_error_rate_is_refused(
    experiment: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        align(experiment, data_dir)
    message = (
        f"{data_dir}: none of the 5 transcripts could be aligned; use a model with a lower word error rate on this"
    )
    assert message in capsys.readouterr().err and not (data_dir / CTM).exists()


def test_a_task_that_the_model_was_not_trained_on_is_named(
    experiment: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_dir / "utt2task").write_text((data_dir / "utt2task").read_text().replace("angry ser", "angry gender"))
    with pytest.raises(SystemExit):
        align(experiment, data_dir)
    assert "utt2task: task 'gender' is not in the table of tasks of" in capsys.readouterr().err


@pytest.mark.usefixtures("any_transcript")
def test_a_folder_without_an_aligned_utterance_is_an_error(
    experiment: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data_dir)
    data_dir.mkdir()
    soundfile.write(data_dir / "short.wav", noise(4800), 16000)
    write_datadir(data_dir, [Utterance("short", str(data_dir / "short.wav"), "ONE TWO THREE", "spk", "asr")])
    (data_dir / "utt2num_samples").write_text("short 4800\n")
    with pytest.raises(SystemExit):
        align(experiment, data_dir)
    assert f"{data_dir}: none of the 1 transcripts could be aligned" in capsys.readouterr().err


@pytest.mark.usefixtures("any_transcript")
def test_training_recombines_the_aligned_words(
    recipe: Recipe, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = recipe.folder / "train"
    align(experiment, train)
    config = {"preprocessor_conf": {"recombine": {"asr": 1.0}}}
    assert (recipe.train("recombined", config) / "valid.loss.ave.pth").is_file()
    (train / CTM).unlink()
    with pytest.raises(SystemExit):
        recipe.train("no_ctm", config)
    assert f"error: {train / CTM}: no word boundaries" in capsys.readouterr().err
