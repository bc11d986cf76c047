"""New utterances of a speaker's words: what is heard is what is written."""

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
SPEAKERS = {"a": 0.1, "b": -0.1}  # what their samples begin with


def say(utterance: str) -> np.ndarray:
    """A tenth of a second for each word: a constant, its number and its speaker's share."""
    levels = [0.2 * WORDS.index(word) + SPEAKERS[utterance[0]] for word in TEXTS[utterance].split()]
    return np.repeat(np.array(levels, np.float32), 1600)


def transcribe(samples: np.ndarray, speaker: str) -> str:
    """The words of such a sound, heard in the middle of each tenth of a second; pieces overlap by 5 ms."""
    words, at = [], 800
    while at < len(samples):
        words.append(WORDS[round(float(samples[at] - SPEAKERS[speaker]) / 0.2)])
        at += 1600
    return " ".join(words)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rows = []
    for utterance, text in TEXTS.items():
        soundfile.write(tmp_path / f"{utterance}.wav", say(utterance), 16000, subtype="FLOAT")
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
    return [recombine(say(utterance), TEXTS[utterance], task, utterance) for _ in range(count)]


def test_what_is_heard_is_what_is_written(data_dir: Path) -> None:
    made = draw(data_dir, "a3", 100)
    for samples, text in made:
        assert transcribe(samples, "a") == text and samples.dtype == np.float32
    texts = {text for _, text in made}
    assert {len(text.split()) for text in texts} == {7} and len(texts) > 50
    assert draw(data_dir, "a3", 100)[7][1] == made[7][1]


def test_runs_have_one_to_three_words(data_dir: Path) -> None:
    runs = [round(7 * 1600 - len(samples)) / 80 + 1 for samples, _ in draw(data_dir, "a3", 400)]  # 5 ms a seam
    assert min(runs) == 3 and max(runs) == 7


def test_none_is_more_than_half_again_as_long(data_dir: Path) -> None:
    np.random.seed(0)
    recombine = Recombination(TASKS, {"asr": 1.0}, data_dir)
    speech = say("a1")
    assert sum(recombine(speech, "short", "asr", "a1")[1] != "short" for _ in range(20)) >= 15
    assert recombine(speech[:3180], "short", "asr", "a1")[1] == "short"  # three tenths of a second would be for two


def test_words_stay_with_their_task(data_dir: Path) -> None:
    table = (data_dir / "utt2task").read_text().replace("a1 asr", "a1 translate")
    (data_dir / "utt2task").write_text(table)
    assert {text for _, text in draw(data_dir, "a3", 20)} == {TEXTS["a3"]}  # too few are left of this task


def test_a_share_of_the_utterances_stays(data_dir: Path) -> None:
    kept = sum(text == TEXTS["a3"] for _, text in draw(data_dir, "a3", 400, prob=0.7))
    assert 90 <= kept <= 150


def test_speakers_who_said_little_other_tasks_and_unknown_times_stay(data_dir: Path) -> None:
    assert {text for _, text in draw(data_dir, "b1", 20)} == {TEXTS["b1"]}  # two utterances
    assert {text for _, text in draw(data_dir, "a3", 20, task="ser")} == {TEXTS["a3"]}
    lines = (data_dir / "ctm").read_text().splitlines(keepends=True)
    (data_dir / "ctm").write_text("".join(line for line in lines if not line.startswith("a3")))
    assert {text for _, text in draw(data_dir, "a3", 20)} == {TEXTS["a3"]}


def test_pieces_overlap_by_five_milliseconds_without_a_jump() -> None:
    rise, fall = np.ones(800, np.float32), np.zeros(800, np.float32)
    sound = crossfade([rise, fall])
    assert len(sound) == 1600 - 80 and (sound[:720] == 1).all() and (sound[800:] == 0).all()
    assert np.abs(np.diff(sound)).max() < 0.02
    assert crossfade([rise]) is not rise and (crossfade([rise]) == rise).all()


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ({"ser": 0.5}, r"recombine names the task 'ser', but those that answer with text are \['asr'\]"),
        ({"xyz": 0.5}, "recombine names the task 'xyz'"),
        ({"asr": 1.5}, "recombine: task 'asr' has 1.5, expected a probability from 0 to 1"),
    ],
)
def test_a_bad_option_is_named(data_dir: Path, probs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recombination(TASKS, probs, data_dir)


def test_times_that_are_missing_or_of_other_words_are_named(data_dir: Path) -> None:
    (data_dir / "text").write_text((data_dir / "text").read_text().replace("a2 FOUR", "a2 ONE"))
    with pytest.raises(ValueError, match=r"ctm: the words of 'a2' are not those of .*text; remove the ctm"):
        Recombination(TASKS, {"asr": 0.5}, data_dir)
    (data_dir / "ctm").unlink()
    with pytest.raises(FileNotFoundError, match=r"ctm: no times of words.*--stage 5 --align true"):
        Recombination(TASKS, {"asr": 0.5}, data_dir)


def test_features_cannot_be_put_together(data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"a3: preprocessor_conf has recombine.*\(10, 4\), as of features"):
        Recombination(TASKS, {"asr": 1.0}, data_dir)(np.zeros((10, 4), np.float32), TEXTS["a3"], "asr", "a3")
