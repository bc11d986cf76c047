"""Dumped features are those of the encoder, and a dump that was cut short goes on."""

from __future__ import annotations

import os
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from tiny import TABLE, answers_for, encoder_config, noise, save_encoder, write_dump

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
    return read_table(write_dump(tmp_path / "dump", answers_for(TABLE, 4, "u")) / "wav.scp")


class Counting:
    """An extractor that says what it was given, and may break."""

    def __init__(self, breaks_at: int = 99, scale: float = 1.0) -> None:
        self.calls, self.breaks_at, self.scale = 0, breaks_at, scale

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        if self.calls == self.breaks_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.scale * samples[: len(samples) // 160 * 160].reshape(-1, 160)


def dump(wav_scp: dict[str, str], extract: Counting, folder: Path, **identity: object) -> dict[str, tuple[str, int]]:
    return {key: entry for shard in dump_features(wav_scp, extract, folder, identity) for key, entry in shard.items()}


def test_every_utterance_is_read_back_as_it_was_made(wav_scp: dict[str, str], tmp_path: Path) -> None:
    entries = dump(wav_scp, Counting(), tmp_path / "data")
    assert sorted(entries) == sorted(wav_scp)
    for key, (location, frames) in entries.items():
        expected = Counting()(read_audio(wav_scp[key])[0])
        np.testing.assert_array_equal(kaldiio.load_mat(location), expected)
        assert frames == len(expected)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == [f"feats.{n}.{kind}" for n in (1, 2, 3) for kind in ("ark", "json")]


def test_a_dump_that_was_cut_short_goes_on(wav_scp: dict[str, str], tmp_path: Path) -> None:
    whole = dump(wav_scp, Counting(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        dump(wav_scp, Counting(breaks_at=4), tmp_path / "data")
    again = Counting()
    entries = dump(wav_scp, again, tmp_path / "data")
    assert again.calls == 5  # the first shard of three was finished
    for key, (location, frames) in entries.items():
        np.testing.assert_array_equal(kaldiio.load_mat(location), kaldiio.load_mat(whole[key][0]))
        assert frames == whole[key][1]


def test_what_was_made_otherwise_is_made_again(wav_scp: dict[str, str], tmp_path: Path) -> None:
    dump(wav_scp, Counting(), tmp_path / "data", n_mels=12)
    same, other, moved = Counting(), Counting(scale=2.0), Counting()
    dump(wav_scp, same, tmp_path / "data", n_mels=12)
    entries = dump(wav_scp, other, tmp_path / "data", n_mels=20)
    os.remove(tmp_path / "data/feats.2.ark")
    dump(wav_scp, moved, tmp_path / "data", n_mels=20)
    assert (same.calls, other.calls, moved.calls) == (0, 8, 3)
    first = sorted(wav_scp)[0]
    np.testing.assert_array_equal(
        kaldiio.load_mat(entries[first][0]), Counting(scale=2.0)(read_audio(wav_scp[first])[0])
    )


def test_a_folder_that_cannot_be_written_is_named(wav_scp: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken: cannot write here"):
        dump(wav_scp, Counting(), tmp_path / "taken")


def test_fbank_is_the_frontend_s_own() -> None:
    samples = noise(8000)
    expected, lengths = LogMel(20)(torch.from_numpy(samples)[None], torch.tensor([8000]))
    made = FbankExtractor(20)(samples)
    np.testing.assert_array_equal(made, expected[0].numpy())
    assert made.shape == (8000 // 160 + 1, 20) == (int(lengths), 20)


def test_ssl_is_the_chosen_layers_side_by_side(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    samples = noise(8000)
    states = list(SelfSupervisedEncoder(model=folder).eval()(torch.from_numpy(samples)[None], torch.tensor([8000]))[0])
    everything, chosen = SSLExtractor({"model": folder})(samples), SSLExtractor({"model": folder}, [3, 1])(samples)
    assert everything.shape == (24, 48) and chosen.shape == (24, 32)
    np.testing.assert_allclose(chosen[:, :16], states[2][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(everything[:, :16], chosen[:, 16:], atol=1e-6)


@pytest.mark.parametrize("layers", [[0], [4], [1, 9]])
def test_layers_that_are_not_there_are_named(layers: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"layers \[{layers[-1]}\]: the encoder has layers 1 to 3"):
        SSLExtractor({"config": encoder_config()}, layers)
