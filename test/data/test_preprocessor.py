"""The literal arrays of an utterance, and random prompts and augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny import TABLE, noise, write_tokenizer

from harmonifuse_espnet.data.alignment import CTM, Word, format_ctm
from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor
from harmonifuse_espnet.data.tasks import Tasks, build_tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, load_tokenizer

TASKS: Tasks = build_tasks(TABLE)
SPEECH = noise(1600)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokens"), TABLE))


def test_a_text_target_ends_with_eos_and_is_also_the_ctc_target(tokenizer: Tokenizer) -> None:
    arrays = HarmoniFusePreprocessor(False, TASKS, tokenizer)("u", {"speech": SPEECH, "task": "asr", "text": "ONE TWO"})
    ids = tokenizer.encode("ONE TWO")
    assert arrays["text"].tolist() == [*ids, tokenizer.eos_id] and arrays["ctc_text"].tolist() == ids
    assert arrays["prompt"].tolist() == tokenizer.encode("TRANSCRIBE") and arrays["task"].tolist() == [0]
    assert arrays["label"].tolist() == [-1]
    assert {name: array.dtype for name, array in arrays.items()} == {
        **dict.fromkeys(("text", "ctc_text", "prompt", "task", "label"), np.dtype(np.int64)),
        "speech": np.dtype(np.float32),
    }


def test_a_label_target_is_its_text_and_the_ctc_target_is_empty(tokenizer: Tokenizer) -> None:
    arrays = HarmoniFusePreprocessor(False, TASKS, tokenizer)("u", {"speech": SPEECH, "task": "ser\n", "text": "neu"})
    assert arrays["text"].tolist() == [*tokenizer.encode("NEUTRAL"), tokenizer.eos_id] and len(arrays["text"]) == 2
    assert arrays["ctc_text"].tolist() == [] and arrays["task"].tolist() == [1] and arrays["label"].tolist() == [1]


def test_without_a_target_its_arrays_are_left_out(tokenizer: Tokenizer) -> None:
    arrays = HarmoniFusePreprocessor(False, TASKS, tokenizer)("u", {"speech": SPEECH, "task": "asr"})
    assert sorted(arrays) == ["prompt", "speech", "task"]


def test_ctc_may_have_its_own_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = load_tokenizer(write_tokenizer(tmp_path, {"asr": TABLE["asr"]}))
    arrays = HarmoniFusePreprocessor(False, TASKS, tokenizer, other)(
        "u", {"speech": SPEECH, "task": "asr", "text": "ONE"}
    )
    assert arrays["ctc_text"].tolist() == other.encode("ONE") != tokenizer.encode("ONE")


def test_prompts_are_drawn_in_training_and_the_first_is_used_in_decoding(tokenizer: Tokenizer) -> None:
    data = {"speech": SPEECH, "task": "asr", "text": "ONE"}
    wordings = {tuple(tokenizer.encode(prompt)) for prompt in TABLE["asr"]["prompts"]}
    np.random.seed(0)
    training, inference = (HarmoniFusePreprocessor(train, TASKS, tokenizer) for train in (True, False))
    drawn = [tuple(training("u", data)["prompt"].tolist()) for _ in range(40)]
    assert set(drawn) == wordings and 10 <= drawn.count(drawn[0]) <= 30
    assert {tuple(inference("u", data)["prompt"].tolist()) for _ in range(40)} == {
        tuple(tokenizer.encode("TRANSCRIBE"))
    }
    np.random.seed(0)
    assert [tuple(training("u", data)["prompt"].tolist()) for _ in range(40)] == drawn


def test_speech_is_augmented_only_in_training(tokenizer: Tokenizer) -> None:
    options: dict[str, Any] = {
        "speed_perturb": {"asr": [0.8, 1.25]}, "gain": {"asr": 6.0}, "noise": {"asr": [10, 20]}, "noise_prob": 1.0
    }  # fmt: skip
    np.random.seed(0)
    training, inference = (HarmoniFusePreprocessor(train, TASKS, tokenizer, **options) for train in (True, False))
    augmented = [training("u", {"speech": SPEECH, "task": "asr"})["speech"] for _ in range(20)]
    assert {len(speech) for speech in augmented} == {2000, 1280}
    assert len({round(float(np.abs(speech).max()), 3) for speech in augmented}) > 10
    assert all((inference("u", {"speech": SPEECH, "task": "asr"})["speech"] == SPEECH).all() for _ in range(20))


def test_recombined_speech_matches_its_transcript(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Three utterances of one word each, which differ in their level; the first may be replaced by any of them."""
    levels = {"ONE": 0.1, "TWO": 0.2, "THREE": 0.3}
    rows = []
    for text, value in levels.items():
        soundfile.write(tmp_path / f"{text}.wav", np.full(1600, value, np.float32), 16000, subtype="FLOAT")
        rows.append(Utterance(text, str(tmp_path / f"{text}.wav"), text, "speaker", "asr"))
    write_datadir(tmp_path, rows)
    data = {"speech": np.full(1600, 0.1, np.float32), "task": "asr", "text": "ONE"}
    options: dict[str, Any] = {"recombine": {"asr": 1.0}, "data_dir": tmp_path}
    inference = HarmoniFusePreprocessor(False, TASKS, tokenizer, **options)("ONE", data)  # needs no ctm
    assert (inference["speech"] == data["speech"]).all() and inference["ctc_text"].tolist() == tokenizer.encode("ONE")
    (tmp_path / CTM).write_text(format_ctm({text: [Word(text, 0.0, 0.1)] for text in levels}))
    training = HarmoniFusePreprocessor(True, TASKS, tokenizer, **options)
    found = set()
    for _ in range(40):
        arrays = training("ONE", data)
        (text,) = [word for word, value in levels.items() if np.allclose(arrays["speech"], value)]
        assert arrays["ctc_text"].tolist() == tokenizer.encode(text)
        assert arrays["text"].tolist() == [*tokenizer.encode(text), tokenizer.eos_id]
        found.add(text)
    assert found == set(levels)


def test_errors_name_the_utterance(tokenizer: Tokenizer) -> None:
    preprocess = HarmoniFusePreprocessor(True, TASKS, tokenizer)
    with pytest.raises(ValueError, match=r"utt7: task 'age' is not in the table of tasks \(asr, ser\); correct utt2t"):
        preprocess("utt7", {"speech": SPEECH, "task": "age", "text": "OLD"})
    with pytest.raises(ValueError, match="utt7: unknown label 'fear' for task 'ser'"):
        preprocess("utt7", {"speech": SPEECH, "task": "ser", "text": "fear"})
    with pytest.raises(ValueError, match="utt7: empty target for task 'asr'"):
        preprocess("utt7", {"speech": SPEECH, "task": "asr", "text": " "})
