"""Audio that is refused, each with its whole message."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.data.audio import ark_entry, read_audio

pytestmark = pytest.mark.bad_input
NOISE = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5\n"


def encode(kind: str, samples: NDArray[np.generic] = NOISE, subtype: str = "PCM_16") -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, samples, 16000, format=kind, subtype=subtype)
    return buffer.getvalue()


def with_number(content: bytes, after: bytes, offset: int, number: int, kind: str) -> bytes:
    """Replace a 32-bit number at an offset from a word of the header."""
    at = content.index(after) + offset
    return content[:at] + struct.pack(f"{kind}I", number) + content[at + 4 :]


def with_flac_length(samples: int) -> bytes:
    content = bytearray(encode("FLAC"))
    fields = int.from_bytes(content[18:26], "big")
    content[18:26] = ((fields >> 36 << 36) | samples).to_bytes(8, "big")
    return bytes(content)


def with_sphere_length(samples: int) -> bytes:
    return encode("NIST").replace(b"sample_count -i 4000", b"sample_count -i %d" % samples)


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nan.wav": (
        lambda: encode("WAV", np.array([0, 0.5, np.nan, np.nan], np.float32), "FLOAT"),
        "2 of 4 samples are NaN or infinite, the first at 0.000 s; restore the file or remove the utterance",
    ),
    "infinity.aiff": (
        lambda: encode("AIFF", np.append(np.zeros(1600), -np.inf), "DOUBLE"),
        "1 of 1601 samples are NaN or infinite, the first at 0.100 s; restore the file or remove the utterance",
    ),
    "pointer.flac": (lambda: POINTER, "a git-lfs pointer, not audio; run 'git lfs pull' in its repository"),
    "empty.wav": (lambda: b"", "the file is empty (0 bytes); restore it or remove the utterance"),
    "no_samples.wav": (
        lambda: encode("WAV", NOISE[:0]),
        "the audio is empty (0 samples); restore the file or remove the utterance",
    ),
    "page.wav": (
        lambda: b"<html><body>404 Not Found</body></html>",
        "not audio, or damaged (Format not recognised); restore the file",
    ),
    "cut.wav": (lambda: encode("WAV")[:4044], "truncated, 2000 of 4000 samples; restore the file"),
    "one_byte_less.wav": (lambda: encode("WAV")[:-1], "truncated, 3999 of 4000 samples; restore the file"),
    "cut.aiff": (lambda: encode("AIFF")[:4054], "truncated, 2000 of 4000 samples; restore the file"),
    "cut.sph": (lambda: encode("NIST")[:5024], "truncated, 2000 of 4000 samples; restore the file"),
    "cut.au": (lambda: encode("AU")[:4024], "truncated, 2000 of 4000 samples; restore the file"),
    "cut.w64": (lambda: encode("W64")[:4104], "truncated, 2000 of 4000 samples; restore the file"),
    "cut.rf64": (lambda: encode("RF64")[:4104], "truncated, 2000 of 4000 samples; restore the file"),
    "cut.flac": (
        lambda: encode("FLAC")[:4000],
        "not audio, or damaged (Error : flac decoder lost sync); restore the file",
    ),
    "cut.ogg": (
        lambda: encode("OGG", NOISE / 32768, "VORBIS")[:3000],
        "not audio, or damaged (Supported file format but file is malformed); restore the file",
    ),
    "less_than_there_is.wav": (
        lambda: with_number(encode("WAV"), b"data", 4, 4000, "<"),
        "the header declares 2000 samples, but 4000 bytes follow; convert the file, for example with ffmpeg",
    ),
    "more_than_there_is.wav": (
        lambda: with_number(encode("WAV"), b"data", 4, 9000, "<"),
        "truncated, 4000 of 4500 samples; restore the file",
    ),
    "zero.wav": (
        lambda: with_number(encode("WAV"), b"data", 4, 0, "<"),
        "the header declares 0 samples, but 8000 bytes follow; convert the file, for example with ffmpeg",
    ),
    "less_than_there_is.flac": (
        lambda: with_flac_length(2000),
        "the audio differs from the MD5 sum in the header; restore the file",
    ),
    "no_length.flac": (
        lambda: with_flac_length(0),
        "the header does not state the length; convert the file, for example with ffmpeg",
    ),
    "less_than_there_is.sph": (
        lambda: with_sphere_length(2000),
        "the header declares 2000 samples, but the file has 4000; convert the file, for example with ffmpeg",
    ),
    "more_than_there_is.sph": (
        lambda: with_sphere_length(5000),
        "truncated, 4000 of 5000 samples; restore the file",
    ),
    "less_than_there_is.aiff": (
        lambda: with_number(encode("AIFF"), b"COMM", 10, 2000, ">"),
        "the header declares 2000 samples, but the file has 4000; convert the file, for example with ffmpeg",
    ),
    "short_chunk.aiff": (
        lambda: with_number(encode("AIFF"), b"SSND", 4, 4008, ">"),
        "truncated, 2000 of 4000 samples; restore the file",
    ),
    "less_than_there_is.au": (
        lambda: with_number(encode("AU"), b".snd", 8, 4000, ">"),
        "the header declares 2000 samples, but 4000 bytes follow; convert the file, for example with ffmpeg",
    ),
    "more_than_there_is.au": (
        lambda: with_number(encode("AU"), b".snd", 8, 9000, ">"),
        "truncated, 4000 of 4500 samples; restore the file",
    ),
    "stereo.wav": (
        lambda: encode("WAV", np.stack([NOISE, NOISE], 1)),
        "2 channels, expected 1; select one or mix them down",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(InputError) as error:
        read_audio(str(path), verify=True)
    assert str(error.value) == f"{path}: {message}"


def test_a_wrong_rate_is_named_with_both_rates(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode("WAV"))
    with pytest.raises(InputError) as error:
        read_audio(str(tmp_path / "a.wav"), 8000)
    assert str(error.value) == (
        f"{tmp_path}/a.wav: sampling rate 16000 Hz, expected 8000 Hz; format_audio (stage 2) resamples"
    )


@pytest.mark.parametrize("name", ["gone.wav", "gone.ark:5", ""])
def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, name: str) -> None:
    location = f"{tmp_path}/{name}".rstrip("/")
    with pytest.raises(MissingFileError) as error:
        read_audio(location)
    assert str(error.value) == (
        f"{location.removesuffix(':5')}: no such audio file; correct the path in wav.scp or restore the file"
    )


def test_a_command_is_not_run() -> None:
    with pytest.raises(InputError) as error:
        read_audio("sph2pipe -f wav a.sph |")
    assert str(error.value) == (
        "'sph2pipe -f wav a.sph |': a command (pipe), which is not run; run it once, and put the file that it writes "
        "into wav.scp"
    )


def archive(content: NDArray[np.generic] | tuple[int, NDArray[np.generic]]) -> bytes:
    buffer = BytesIO()
    kaldiio.save_ark(buffer, {"a": content})
    return buffer.getvalue()


REASON = "not an audio entry of a Kaldi archive, or damaged"
MATRIX = "this entry of the archive is a matrix, not audio; write audio into wav.scp"
ARCHIVES: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "matrix": (lambda: archive(np.ones((3, 2), np.float32)), 2, MATRIX),
    "vector": (lambda: archive(np.ones(3, np.float32)), 2, MATRIX),
    "wrong offset": (lambda: ark_entry("a", NOISE, 16000)[0], 99999, f"{REASON} (incomplete); write the archive again"),
    "negative size": (lambda: b"a \0BFM " + bytes(30), 2, f"{REASON} (incomplete); write the archive again"),
    "not an archive": (
        lambda: b"hello",
        0,
        f"{REASON} (hellois not a digit File format is wrong?); write the archive again",
    ),
    "empty": (lambda: b"", 0, f"{REASON} ([Errno 22] Invalid argument); write the archive again"),
    "truncated": (
        lambda: archive((16000, NOISE))[:4046],
        2,
        "truncated, 2000 of 4000 samples; write the archive again",
    ),
    "no header": (
        lambda: b"a RIFF\x10\0\0\0WAVEdata\x04\0\0\0abcdefgh" + bytes(30),
        2,
        f"{REASON} (data chunk before fmt chunk); write the archive again",
    ),
    "two channels": (
        lambda: archive((16000, np.stack([NOISE, NOISE], 1))),
        2,
        "2 channels, expected 1; select one or mix them down",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_entry_of_an_archive_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    make, offset, message = ARCHIVES[name]
    location = f"{tmp_path / 'a.ark'}:{offset}"
    (tmp_path / "a.ark").write_bytes(make())
    with pytest.raises(InputError) as error:
        read_audio(location)
    assert str(error.value) == f"{location}: {message}"


def test_an_archive_that_git_lfs_has_not_downloaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(POINTER)
    with pytest.raises(InputError) as error:
        read_audio(f"{tmp_path / 'a.ark'}:3")
    assert str(error.value) == (
        f"{tmp_path}/a.ark: a git-lfs pointer, not an archive; run 'git lfs pull' in its repository"
    )
