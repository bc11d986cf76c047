"""Dumped features are equal to those of the encoder, and an interrupted dump is resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from tiny import TABLE, encoder_config, make_texts, noise, save_encoder, write_dump

from harmonifuse_espnet.data import features
from harmonifuse_espnet.data.audio import read_audio
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.features import dump_features
from harmonifuse_espnet.data.logmel import LogMel
from harmonifuse_espnet.inference.extractors import FbankExtractor, SSLExtractor
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder


@pytest.fixture
def wav_scp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Eight utterances in shards of three."""
    monkeypatch.setattr(features, "SHARD_SIZE", 3)
    return read_table(write_dump(tmp_path / "dump", make_texts(TABLE, 4, "u")) / "wav.scp")


class Counting:
    """An extractor that returns the samples themselves, counts its calls, and may be interrupted."""

    def __init__(self, interrupted_at: int = 99, scale: float = 1.0) -> None:
        self.calls, self.interrupted_at, self.scale = 0, interrupted_at, scale

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.scale * samples[: len(samples) // 160 * 160].reshape(-1, 160)


def dump(wav_scp: dict[str, str], extract: Counting, folder: Path, **settings: object) -> dict[str, tuple[str, int]]:
    return {key: entry for shard in dump_features(wav_scp, extract, folder, settings) for key, entry in shard.items()}


def test_dumped_features_are_those_of_the_extractor(wav_scp: dict[str, str], tmp_path: Path) -> None:
    entries = dump(wav_scp, Counting(), tmp_path / "data")
    assert sorted(entries) == sorted(wav_scp)
    for key, (location, frames) in entries.items():
        expected = Counting()(read_audio(wav_scp[key])[0])
        np.testing.assert_array_equal(kaldiio.load_mat(location), expected)
        assert frames == len(expected)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == [f"feats.{n}.{kind}" for n in (1, 2, 3) for kind in ("ark", "json")]


def test_an_interrupted_dump_is_resumed(wav_scp: dict[str, str], tmp_path: Path) -> None:
    whole = dump(wav_scp, Counting(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        dump(wav_scp, Counting(interrupted_at=4), tmp_path / "data")
    resumed = Counting()
    entries = dump(wav_scp, resumed, tmp_path / "data")
    assert resumed.calls == 5  # the first shard of three utterances was complete
    for key, (location, frames) in entries.items():
        np.testing.assert_array_equal(kaldiio.load_mat(location), kaldiio.load_mat(whole[key][0]))
        assert frames == whole[key][1]


def test_outdated_or_incomplete_shards_are_rewritten(wav_scp: dict[str, str], tmp_path: Path) -> None:
    dump(wav_scp, Counting(), tmp_path / "data", n_mels=12)
    same, other, incomplete = Counting(), Counting(scale=2.0), Counting()
    dump(wav_scp, same, tmp_path / "data", n_mels=12)
    entries = dump(wav_scp, other, tmp_path / "data", n_mels=20)
    os.remove(tmp_path / "data/feats.2.ark")
    dump(wav_scp, incomplete, tmp_path / "data", n_mels=20)
    assert (same.calls, other.calls, incomplete.calls) == (0, 8, 3)
    first = sorted(wav_scp)[0]
    np.testing.assert_array_equal(
        kaldiio.load_mat(entries[first][0]), Counting(scale=2.0)(read_audio(wav_scp[first])[0])
    )


def test_a_folder_that_cannot_be_written_is_named(wav_scp: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken: cannot write to this folder"):
        dump(wav_scp, Counting(), tmp_path / "taken")


def test_fbank_features_are_equal_to_the_frontend_s() -> None:
    samples = noise(8000)
    expected, lengths = LogMel(20)(torch.from_numpy(samples)[None], torch.tensor([8000]))
    frames = FbankExtractor(20)(samples)
    np.testing.assert_array_equal(frames, expected[0].numpy())
    assert frames.shape == (8000 // 160 + 1, 20) == (int(lengths), 20)


def test_ssl_features_are_the_selected_layers_concatenated(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    samples = noise(8000)
    states = list(SelfSupervisedEncoder(model=folder).eval()(torch.from_numpy(samples)[None], torch.tensor([8000]))[0])
    everything, selected = SSLExtractor({"model": folder})(samples), SSLExtractor({"model": folder}, [3, 1])(samples)
    assert everything.shape == (24, 48) and selected.shape == (24, 32)
    np.testing.assert_allclose(selected[:, :16], states[2][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(everything[:, :16], selected[:, 16:], atol=1e-6)


@pytest.mark.parametrize("layers", [[0], [4], [1, 9]])
def test_layers_that_do_not_exist_are_named(layers: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"layers \[{layers[-1]}\]: the encoder has layers 1 to 3"):
        SSLExtractor({"config": encoder_config()}, layers)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 5000, '{"made_with": {}}'], ids=lambda text: text[:9])
def test_a_shard_with_a_damaged_index_is_rewritten(wav_scp: dict[str, str], tmp_path: Path, content: str) -> None:
    entries = dump(wav_scp, Counting(), tmp_path / "data")
    (tmp_path / "data/feats.2.json").write_text(content)
    extract = Counting()
    assert dump(wav_scp, extract, tmp_path / "data") == entries and extract.calls == 3


@pytest.mark.parametrize("change", ["missing", "number", "pair"])
def test_a_shard_with_other_entries_is_rewritten(wav_scp: dict[str, str], tmp_path: Path, change: str) -> None:
    entries = dump(wav_scp, Counting(), tmp_path / "data")
    index = tmp_path / "data/feats.1.json"
    content = json.loads(index.read_text())
    first = next(iter(content["entries"]))
    location, frames = content["entries"].pop(first)
    if change != "missing":
        content["entries"] = {
            first: [location, str(frames)] if change == "number" else [location],
            **content["entries"],
        }
    index.write_text(json.dumps(content))
    extract = Counting()
    assert dump(wav_scp, extract, tmp_path / "data") == entries and extract.calls == 3
