"""Reading, resampling and encoding audio."""

from __future__ import annotations

from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from harmonifuse_espnet.data.audio import ark_entry, audio_file, encode_audio, read_audio, resample, to_16_bit


def tone(hertz: float, rate: int, seconds: float, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.fixture
def noise() -> NDArray[np.int16]:
    """16-bit samples that include both ends of the scale."""
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    samples[:2] = -32768, 32767
    return samples


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_a_tone_keeps_its_pitch_level_and_duration(rate: int) -> None:
    samples = tone(440, rate, 1.3)
    output = resample(samples, rate, 16000)
    assert abs(len(output) - round(len(samples) * 16000 / rate)) <= 1
    spectrum = np.abs(np.fft.rfft(output * np.hanning(len(output))))
    assert abs(np.argmax(spectrum) * 16000 / len(output) - 440) < 1
    assert np.abs(output[1000:-1000]).max() == pytest.approx(0.5, abs=0.005)


def test_equal_rates_return_the_samples() -> None:
    samples = tone(440, 16000, 0.1)
    assert resample(samples, 16000, 16000) is samples


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_writing_and_reading_restores_16_bit_samples(
    tmp_path: Path, noise: NDArray[np.int16], audio_format: str
) -> None:
    path = tmp_path / f"with a space.{audio_format}"
    path.write_bytes(encode_audio(noise, 8000, audio_format))
    samples, rate = read_audio(str(path))
    assert rate == 8000 and samples.dtype == np.float32
    written, clamped = to_16_bit(samples)
    assert clamped == 0
    np.testing.assert_array_equal(written, noise)


def test_archive_entries_are_restored_and_readable_by_kaldiio(tmp_path: Path, noise: NDArray[np.int16]) -> None:
    first, first_offset = ark_entry("utt-ä", noise[:100], 16000)
    second, second_offset = ark_entry("b", noise, 16000)
    ark = tmp_path / "with a space.ark"
    ark.write_bytes(first + second)
    for location, expected in ((f"{ark}:{first_offset}", noise[:100]), (f"{ark}:{len(first) + second_offset}", noise)):
        samples, rate = read_audio(location)
        assert rate == 16000
        np.testing.assert_array_equal(to_16_bit(samples)[0], expected)
        assert audio_file(location) == ark
    assert list(kaldiio.load_ark(str(ark)))[1][0] == "b"


def test_kaldi_archives_of_wav_are_read_at_the_same_scale(tmp_path: Path, noise: NDArray[np.int16]) -> None:
    kaldiio.save_ark(str(tmp_path / "a.ark"), {"a": (16000, noise)}, scp=str(tmp_path / "a.scp"))
    location = (tmp_path / "a.scp").read_text().split(maxsplit=1)[1].strip()
    samples, rate = read_audio(location)
    assert rate == 16000
    np.testing.assert_array_equal(to_16_bit(samples)[0], noise)


def test_overshoot_is_clamped_and_counted() -> None:
    samples, clamped = to_16_bit(np.array([1.0, 1.2, -1.0, -1.1, 0.25], dtype=np.float32))
    assert samples.tolist() == [32767, 32767, -32768, -32768, 8192]
    assert clamped == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: no such audio file; correct the path"):
        read_audio(str(tmp_path / "gone.wav"))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(ValueError, match=r"a\.wav: the file is empty \(0 bytes\)"):
        read_audio(str(tmp_path / "a.wav"))


def test_audio_without_samples_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), 16000)
    with pytest.raises(ValueError, match=r"a\.wav: the audio is empty \(0 samples\)"):
        read_audio(str(tmp_path / "a.wav"))


def test_a_text_file_is_not_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.wav: not audio, or damaged"):
        read_audio(str(tmp_path / "a.wav"))


@pytest.mark.parametrize("kind", ["wav", "aiff", "flac"])
def test_a_truncated_file_is_an_error(tmp_path: Path, noise: NDArray[np.int16], kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, noise, 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\.{kind}: (truncated, \d+ of \d+ samples|not audio, or damaged)"):
        read_audio(str(path))


def test_a_truncated_sphere_file_is_an_error(tmp_path: Path) -> None:
    """libsndfile itself uses the length of the file without an error."""
    fields = "sample_count -i 400\nsample_n_bytes -i 2\nchannel_count -i 1\nsample_byte_format -s2 01\n"
    fields += "sample_rate -i 16000\nsample_coding -s3 pcm\nend_head\n"
    header = ("NIST_1A\n   1024\n" + fields).encode().ljust(1024)
    (tmp_path / "a.sph").write_bytes(header + bytes(800))
    assert len(read_audio(str(tmp_path / "a.sph"))[0]) == 400
    (tmp_path / "a.sph").write_bytes(header + bytes(600))
    with pytest.raises(ValueError, match=r"a\.sph: truncated, 300 of 400 samples"):
        read_audio(str(tmp_path / "a.sph"))


def test_a_streamed_wav_without_a_length_in_its_header_is_read(tmp_path: Path, noise: NDArray[np.int16]) -> None:
    data = bytearray(encode_audio(noise, 16000, "wav"))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert bytes(data[36:40]) == b"data"
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_audio(str(tmp_path / "a.wav"))[0]) == len(noise)


def test_a_flac_without_a_length_in_its_header_is_an_error(tmp_path: Path, noise: NDArray[np.int16]) -> None:
    data = bytearray(encode_audio(noise, 16000, "flac"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.flac: the header does not state the length; convert the file"):
        read_audio(str(tmp_path / "a.flac"))


def test_several_channels_are_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones((100, 2), np.int16), 16000)
    with pytest.raises(ValueError, match=r"a\.wav: 2 channels, expected 1"):
        read_audio(str(tmp_path / "a.wav"))


def test_a_matrix_in_an_archive_is_not_audio(tmp_path: Path) -> None:
    kaldiio.save_ark(str(tmp_path / "a.ark"), {"a": np.ones((3, 2), np.float32)})
    with pytest.raises(ValueError, match="this entry of the archive is a matrix, not audio"):
        read_audio(f"{tmp_path / 'a.ark'}:2")


def test_a_wrong_offset_in_an_archive_is_named(tmp_path: Path, noise: NDArray[np.int16]) -> None:
    (tmp_path / "a.ark").write_bytes(ark_entry("a", noise, 16000)[0])
    with pytest.raises(ValueError, match=r"a\.ark:7: not an audio entry of a Kaldi archive"):
        read_audio(f"{tmp_path / 'a.ark'}:7")


def test_an_unknown_format_is_an_error_with_the_known_ones(noise: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="unknown audio format 'mp3'; choose from flac, wav"):
        encode_audio(noise, 16000, "mp3")
