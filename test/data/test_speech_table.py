"""Audio and features for training: the same values as elsewhere, and errors with the utterance and the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from tiny import noise

from harmonifuse_espnet.common.errors import InputError, MissingFileError, UserError
from harmonifuse_espnet.data.audio import ark_entry, read_audio, to_16_bit
from harmonifuse_espnet.data.speech_table import SpeechTable, read_features


@pytest.fixture
def scp(tmp_path: Path) -> Path:
    """A table of two audio files, one with a blank and a comma in its path."""
    for name in ("a.flac", "b, c.wav"):
        soundfile.write(tmp_path / name, noise(4000), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.flac\nb {tmp_path}/b, c.wav\n")
    return tmp_path / "wav.scp"


def write_features(folder: Path, **matrices: np.ndarray) -> Path:
    kaldiio.save_ark(str(folder / "feats.ark"), matrices, scp=str(folder / "feats.scp"))
    return folder / "feats.scp"


def failure(table: SpeechTable, utterance: str) -> str:
    with pytest.raises(UserError) as error:
        table[utterance]
    return str(error.value)


def test_audio_is_that_of_read_audio(scp: Path) -> None:
    table = SpeechTable(str(scp), "sound")
    assert list(table) == ["a", "b"] and len(table) == 2
    for key, name in (("a", "a.flac"), ("b", "b, c.wav")):
        assert np.array_equal(table[key], read_audio(str(scp.parent / name))[0]) and table[key].dtype == np.float32
    assert np.array_equal(pickle.loads(pickle.dumps(table))["b"], table["b"])  # for worker processes


def test_archives_may_have_audio_or_features(tmp_path: Path) -> None:
    samples, _ = to_16_bit(noise(4000))
    entry, offset = ark_entry("a", samples, 16000)
    (tmp_path / "a.ark").write_bytes(entry)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.ark:{offset}\n")
    for file_type in ("kaldi_ark", "sound"):
        read = SpeechTable(str(tmp_path / "wav.scp"), file_type)["a"]
        assert np.array_equal(read, samples.astype(np.float32) / 32768)
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(SpeechTable(str(write_features(tmp_path, b=features)), "kaldi_ark")["b"], features)


def test_audio_that_cannot_be_read_is_named(scp: Path) -> None:
    table, folder = SpeechTable(str(scp), "sound"), scp.parent
    (folder / "a.flac").unlink()
    with pytest.raises(MissingFileError) as error:
        table["a"]
    assert str(error.value) == (
        f"{scp}: utterance 'a': {folder}/a.flac: no such audio file; correct the path in wav.scp or restore the file"
    )
    (folder / "b, c.wav").write_text("no audio")
    assert failure(table, "b").startswith(f"{scp}: utterance 'b': {folder}/b, c.wav: not audio, or damaged (")
    soundfile.write(folder / "b, c.wav", noise(4000), 8000)
    assert failure(table, "b") == (
        f"{scp}: utterance 'b': {folder}/b, c.wav: sampling rate 8000 Hz, expected 16000 Hz; format_audio (stage 2) "
        "resamples"
    )


def test_features_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    features = np.ones((4, 3), dtype=np.float32)
    bad = features.copy()
    bad[2, 1], bad[3, 0] = np.nan, np.inf
    scp = write_features(
        tmp_path, good=features, bad=bad, empty=np.ones((0, 3), np.float32), flat=np.ones(3, np.float32)
    )
    table = SpeechTable(str(scp), "kaldi_ark")
    location, empty, flat = (table.locations[key] for key in ("bad", "empty", "flat"))
    assert failure(table, "bad") == (
        f"{scp}: utterance 'bad': {location}: 2 of 12 values are NaN or infinite, the first in frame 2; run stage 3 "
        "again"
    )
    assert failure(table, "empty") == (
        f"{scp}: utterance 'empty': {empty}: an entry (0, 3), expected features (frames, width); run stage 3 again"
    )
    assert failure(table, "flat") == (
        f"{scp}: utterance 'flat': {flat}: an entry (3,), expected features (frames, width); run stage 3 again"
    )
    ark = tmp_path / "feats.ark"
    ark.write_bytes(ark.read_bytes()[:30])
    assert failure(table, "good").startswith(
        f"{scp}: utterance 'good': {table.locations['good']}: not an entry of a Kaldi archive, or damaged ("
    )
    ark.unlink()
    with pytest.raises(MissingFileError) as error:
        read_features(f"{ark}:5")
    assert str(error.value) == f"{ark}: no such archive; run stage 3 again, or stage 2 for audio"


def test_an_empty_or_invalid_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_text("")
    with pytest.raises(InputError) as error:
        SpeechTable(str(path), "sound")
    assert str(error.value) == f"{path}: no utterances; prepare the folder again"
    path.write_text("a a.flac\na b.flac\n")
    with pytest.raises(InputError, match="wav.scp:2: duplicate key 'a'"):
        SpeechTable(str(path), "sound")
