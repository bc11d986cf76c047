"""Synthetic corpora and models: their content, and that they are read like real ones (IEMOCAP: test/corpora)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_synthetic_data import main, make_synthetic_data
from synthetic.librispeech import FULL_TRAINING
from synthetic.sounds import WORDS, sound

from harmonifuse_espnet.corpora import iemocap, librispeech


def test_librispeech_has_the_requested_subsets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path), "librispeech", "--subsets", "train-clean-5=100", "dev-clean-2=7", "--seconds", "0.2", "0.3"])
    assert capsys.readouterr().out == f"{tmp_path}/LibriSpeech: 107 utterances\n"
    sets = librispeech.prepare(tmp_path)
    assert {name: len(rows) for name, rows in sets.items()} == {"dev_clean_2": 7, "train_clean_5": 100}
    genders = librispeech.prepare(tmp_path, ["train-clean-5"], label="gender")["train_clean_5"]
    assert set(Counter(row.text for row in genders)) == {"female", "male"}
    for row in sets["dev_clean_2"]:
        info = soundfile.info(row.audio)
        assert (info.samplerate, info.channels, info.format) == (16000, 1, "FLAC")
        assert 0.2 <= info.duration <= 0.3
        assert set(row.text.split()) <= set(WORDS)


def test_each_reader_is_in_one_subset(tmp_path: Path) -> None:
    make_synthetic_data(
        tmp_path, ["librispeech"], subsets=["train-clean-5=300", "dev-clean-2=50", "dev-clean=9"], empty=True
    )
    readers = {
        name: {row.speaker.split("-")[0] for row in rows}
        for name, rows in librispeech.prepare(tmp_path, check_counts=False).items()
    }
    assert [len(found) for found in readers.values()] == [1, 1, 3]
    assert len(set().union(*readers.values())) == 5
    assert set(librispeech.read_genders(tmp_path / "LibriSpeech/SPEAKERS.TXT")) == set().union(*readers.values())


def test_there_is_an_empty_file_for_each_training_utterance_of_the_release(tmp_path: Path) -> None:
    assert sum(FULL_TRAINING.values()) == 281241
    make_synthetic_data(tmp_path, ["librispeech"], subsets=["train-clean-100=60"], empty=True)
    (rows,) = librispeech.prepare(tmp_path, check_counts=False).values()
    assert {Path(row.audio).stat().st_size for row in rows} == {0}
    assert {len(row.text.split()) for row in rows} == {33}


def test_the_same_seed_creates_the_same_files(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_synthetic_data(tmp_path / name, ["librispeech"], seed=seed, subsets=["dev-clean=9"])
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1] != digests[2]


def test_a_part_of_iemocap_has_all_sessions_and_speakers_and_passes_as_a_part(tmp_path: Path) -> None:
    make_synthetic_data(tmp_path, ["iemocap"], turns=400)
    rows = [row for rows in iemocap.prepare(tmp_path, "espnet", labels=["all"]).values() for row in rows]
    assert (len(rows), len({row.speaker for row in rows})) == (400, 10)
    assert {"ang", "exc", "hap", "neu", "sad"} < {row.text for row in rows}
    make_synthetic_data(tmp_path / "least", ["iemocap"], turns=50)
    sets = iemocap.prepare(tmp_path / "least", "espnet", labels=["all"])
    assert 45 <= sum(map(len, sets.values())) <= 55


def test_each_word_is_a_different_tone() -> None:
    samples = sound(["ONE", "THREE"], pitch=200.0, seconds=1.0, generator=np.random.default_rng(0))
    halves = samples[:8000], samples[8000:]
    peaks = [int(np.abs(np.fft.rfft(half)).argmax()) * 2 for half in halves]  # bins of 2 Hz
    assert peaks == [200, 320]


def test_models_load_like_the_real_ones(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoTokenizer

    make_synthetic_data(tmp_path, ["models"])
    wavlm = AutoModel.from_pretrained(tmp_path / "models" / "wavlm")
    assert wavlm(torch.zeros(1, 16000)).last_hidden_state.shape == (1, 49, 64)  # WavLM's own 320 samples a frame
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "models" / "wavlm").do_normalize
    folder = tmp_path / "models" / "qwen2"
    tokenizer, qwen2 = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    text = "Zoë says: 'NO'."
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text and len(ids) == len(text.encode())
    assert len(tokenizer) <= qwen2.config.vocab_size
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "HI"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<|im_start|>user\nHI<|im_end|>\n<|im_start|>assistant\n"
    assert len(tokenizer("<|im_start|>")["input_ids"]) == 1 and tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timit"], "unknown KIND 'timit', expected one of: iemocap, librispeech, models"),
        (["librispeech", "--subsets", "dev-clean"], "--subsets dev-clean: expected NAME=COUNT"),
        (["librispeech", "--subsets", "dev-clean=0"], "--subsets dev-clean=0: expected NAME=COUNT"),
        (["iemocap", "--turns", "10"], "--turns 10: expected 50 to 10039"),
        (["iemocap", "--seconds", "0.3", "0.2"], "--seconds 0.3 0.2: expected 0.1 <= SHORTEST <= LONGEST"),
    ],
)
def test_invalid_options_are_refused(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), *arguments])
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out" / "LibriSpeech").exists()


def test_existing_data_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_synthetic_data(tmp_path, ["librispeech"], subsets=["dev-clean=2"], empty=True)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "librispeech"])
    assert "LibriSpeech already exists; remove it or choose another folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "file"), "librispeech"])
    assert re.match("error: .*Not a directory", capsys.readouterr().err)
