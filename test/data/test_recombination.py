"""Word recombination: the audio of a new utterance has the words of its transcript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny import TABLE

from harmonifuse_espnet.data.alignment import Word, format_ctm
from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.recombination import Recombination, crossfade
from harmonifuse_espnet.data.tasks import build_tasks

TASKS = build_tasks(TABLE)
WORDS = ["ONE", "TWO", "THREE", "FOUR"]
LONG = "TWO FOUR THREE ONE TWO ONE THREE"
TEXTS = {"a1": "ONE TWO THREE", "a2": "FOUR", "a3": LONG, "b1": "ONE TWO", "b2": "THREE FOUR"}
SPEAKERS = {"a": 0.1, "b": -0.1}  # offset of their samples


def synthesize(utterance: str) -> np.ndarray:
    """Return a tenth of a second for each word: a constant for the word plus the offset of the speaker."""
    levels = [0.2 * WORDS.index(word) + SPEAKERS[utterance[0]] for word in TEXTS[utterance].split()]
    return np.repeat(np.array(levels, np.float32), 1600)


def transcribe(samples: np.ndarray, speaker: str) -> str:
    """Return the words of such audio, read from the middle of each tenth of a second; pieces overlap by 5 ms."""
    middles = samples[800::1600]
    return " ".join(WORDS[round(float(value - SPEAKERS[speaker]) / 0.2)] for value in middles)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rows = []
    for utterance, text in TEXTS.items():
        soundfile.write(tmp_path / f"{utterance}.wav", synthesize(utterance), 16000, subtype="FLOAT")
        rows.append(Utterance(utterance, str(tmp_path / f"{utterance}.wav"), text, utterance[0], "asr"))
    write_datadir(tmp_path, rows)
    words = {
        key: [Word(word, n / 10, (n + 1) / 10) for n, word in enumerate(text.split())] for key, text in TEXTS.items()
    }
    (tmp_path / "ctm").write_text(format_ctm(words))
    return tmp_path


def draw(data_dir: Path, utterance: str, count: int, task: str = "asr", prob: float = 1.0) -> list[tuple[Any, str]]:
    np.random.seed(0)
    recombine = Recombination(TASKS, {"asr": prob}, data_dir)
    return [recombine(synthesize(utterance), TEXTS[utterance], task, utterance) for _ in range(count)]


def test_the_audio_has_the_words_of_the_transcript(data_dir: Path) -> None:
    drawn = draw(data_dir, "a3", 100)
    for samples, text in drawn:
        assert transcribe(samples, "a") == text and samples.dtype == np.float32
    texts = {text for _, text in drawn}
    assert {len(text.split()) for text in texts} == {7} and len(texts) > 50
    assert draw(data_dir, "a3", 100)[7][1] == drawn[7][1]


def test_runs_have_one_to_three_words(data_dir: Path) -> None:
    runs = [round(7 * 1600 - len(samples)) / 80 + 1 for samples, _ in draw(data_dir, "a3", 400)]  # 5 ms per crossfade
    assert min(runs) == 3 and max(runs) == 7


def test_no_utterance_becomes_more_than_1_5_times_as_long(data_dir: Path) -> None:
    np.random.seed(0)
    recombine = Recombination(TASKS, {"asr": 1.0}, data_dir)
    speech = synthesize("a1")
    assert sum(recombine(speech, "short", "asr", "a1")[1] != "short" for _ in range(20)) >= 15
    assert recombine(speech[:3180], "short", "asr", "a1")[1] == "short"  # 0.3 s would replace less than 0.2 s


def test_words_come_from_utterances_of_the_same_task(data_dir: Path) -> None:
    table = (data_dir / "utt2task").read_text().replace("a1 asr", "a1 translate")
    (data_dir / "utt2task").write_text(table)
    assert {text for _, text in draw(data_dir, "a3", 20)} == {
        TEXTS["a3"]
    }  # fewer than three utterances of this task remain


def test_utterances_are_replaced_with_the_given_probability(data_dir: Path) -> None:
    kept = sum(text == TEXTS["a3"] for _, text in draw(data_dir, "a3", 400, prob=0.7))
    assert 90 <= kept <= 150


def test_few_utterances_other_tasks_and_missing_boundaries_are_not_replaced(data_dir: Path) -> None:
    assert {text for _, text in draw(data_dir, "b1", 20)} == {TEXTS["b1"]}  # two utterances
    assert {text for _, text in draw(data_dir, "a3", 20, task="ser")} == {TEXTS["a3"]}
    lines = (data_dir / "ctm").read_text().splitlines(keepends=True)
    (data_dir / "ctm").write_text("".join(line for line in lines if not line.startswith("a3")))
    assert {text for _, text in draw(data_dir, "a3", 20)} == {TEXTS["a3"]}


def test_pieces_are_crossfaded_over_5_ms_without_a_discontinuity() -> None:
    ones, zeros = np.ones(800, np.float32), np.zeros(800, np.float32)
    audio = crossfade([ones, zeros])
    assert len(audio) == 1600 - 80 and (audio[:720] == 1).all() and (audio[800:] == 0).all()
    assert np.abs(np.diff(audio)).max() < 0.02
    assert crossfade([ones]) is not ones and (crossfade([ones]) == ones).all()


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ({"ser": 0.5}, r"recombine has the task 'ser', but the tasks with text targets are \['asr'\]"),
        ({"xyz": 0.5}, "recombine has the task 'xyz'"),
        ({"asr": 1.5}, "recombine: task 'asr' has 1.5, expected a probability from 0 to 1"),
    ],
)
def test_invalid_probabilities_are_refused(data_dir: Path, probs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recombination(TASKS, probs, data_dir)


def test_a_missing_or_outdated_ctm_is_an_error(data_dir: Path) -> None:
    (data_dir / "text").write_text((data_dir / "text").read_text().replace("a2 FOUR", "a2 ONE"))
    with pytest.raises(ValueError, match=r"ctm: the words of 'a2' differ from .*text; remove the ctm"):
        Recombination(TASKS, {"asr": 0.5}, data_dir)
    (data_dir / "ctm").unlink()
    with pytest.raises(FileNotFoundError, match=r"ctm: no word boundaries.*--stage 5 --align true"):
        Recombination(TASKS, {"asr": 0.5}, data_dir)


def test_features_are_refused(data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"a3: preprocessor_conf has recombine.*\(10, 4\) of features"):
        Recombination(TASKS, {"asr": 1.0}, data_dir)(np.zeros((10, 4), np.float32), TEXTS["a3"], "asr", "a3")
