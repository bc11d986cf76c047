"""Audio files: read any format as mono samples, resample, encode as 16 bit. PyTorch is imported only to resample."""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import kaldiio
import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError, MissingFileError

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16000  # hertz, of all audio that the model reads
FORMATS = ("flac", "wav")
_FULL_SCALE = 32768
_STREAMED_BYTES = 0x7FFFF000  # lengths from here on mean "unknown": the file was written to a pipe
_UNKNOWN_FRAMES = 1 << 48  # libsndfile reports at least this many frames if a FLAC header has no length
_TRUNCATED = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_IN_ARK = re.compile(r"(?P<ark>.+):\d+$")


def audio_file(location: str) -> Path:
    """Return the file of a ``wav.scp`` entry: the path itself, or the archive of ``archive.ark:offset``."""
    in_ark = _IN_ARK.match(location)
    return Path(in_ark["ark"]) if in_ark and not Path(location).is_file() else Path(location)


def read_audio(location: str, expected_rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Read one audio file (any format of libsndfile), or one entry of a Kaldi archive.

    Args:
        location: A path, or ``archive.ark:offset``, as in ``wav.scp``; relative to the working directory.
        expected_rate: Required sampling rate in hertz; None for any.

    Returns:
        Samples in [-1, 1], shape (N,), N > 0, and the sampling rate in hertz.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if the file is not audio, is truncated or empty, or has several channels or another rate.
    """
    path = audio_file(location)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such audio file; correct the path in wav.scp or restore the file")
    samples, rate = _read_file(path) if path == Path(location) else _read_ark(location)
    if samples.ndim > 1:
        raise InputError(f"{location}: {samples.shape[1]} channels, expected 1; select one or mix them down")
    if not samples.size:
        raise InputError(f"{location}: the audio is empty (0 samples)")
    if expected_rate not in (None, rate):
        raise InputError(
            f"{location}: sampling rate {rate} Hz, expected {expected_rate} Hz; format_audio (stage 2) resamples"
        )
    return samples, rate


def _read_file(path: Path) -> tuple[NDArray[np.float32], int]:
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames >= _UNKNOWN_FRAMES:
                raise InputError(
                    f"{path}: the header does not state the length; convert the file, for example with ffmpeg"
                )
            declared = max(file.frames, _declared_frames(path, file))
            samples = file.read(dtype="float32")
            rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: not audio, or damaged ({error.error_string}); restore the file") from error
    if len(samples) < declared:
        raise InputError(f"{path}: truncated, {len(samples)} of {declared} samples; restore the file")
    return samples, rate


def _declared_frames(path: Path, file: soundfile.SoundFile) -> int:
    """Return the number of frames that the header declares, 0 if unknown; libsndfile corrects it in truncated files."""
    if file.format == "NIST":
        with path.open("rb") as header:
            count = re.search(rb"sample_count -i (\d+)", header.read(1024))
        return int(count[1]) if count else 0
    truncated = _TRUNCATED.search(file.extra_info)
    if truncated is None:
        return 0
    declared_bytes, present_bytes = int(truncated[1]), int(truncated[2])
    if declared_bytes >= _STREAMED_BYTES:
        return 0
    return file.frames * declared_bytes // max(present_bytes, 1) if file.frames else declared_bytes


def _read_ark(location: str) -> tuple[NDArray[np.float32], int]:
    try:
        entry = kaldiio.load_mat(location)
    except (soundfile.LibsndfileError, ValueError, EOFError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(f"{location}: not an audio entry of a Kaldi archive, or damaged ({error})") from error
    if not isinstance(entry, tuple):
        raise InputError(f"{location}: this entry of the archive is a matrix, not audio")
    rate, samples = entry
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / _FULL_SCALE, int(rate)
    return samples.astype(np.float32), int(rate)


def resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Resample with torchaudio (windowed sinc): (N,) -> (ceil(N * target / rate),).

    ``samples`` is returned unchanged if the rates are equal. Overshoot beyond [-1, 1] is not clipped.
    """
    if rate == target:
        return samples
    import torch

    with torch.no_grad():
        return _resampler(rate, target)(torch.from_numpy(samples)).numpy()


@lru_cache(maxsize=16)
def _resampler(rate: int, target: int) -> torch.nn.Module:
    import torchaudio

    return torchaudio.transforms.Resample(rate, target)


def to_16_bit(samples: NDArray[np.float32]) -> tuple[NDArray[np.int16], int]:
    """Round samples in [-1, 1] to 16 bit; return them and the number of samples beyond full scale, which are clamped.

    For 16-bit audio from :func:`read_audio` this restores the original samples exactly.

    Example:
        >>> to_16_bit(np.array([0.5, -1.0, 1.5], dtype=np.float32))
        (array([ 16384, -32768,  32767], dtype=int16), 1)
    """
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    clamped = int(np.count_nonzero((scaled > _FULL_SCALE) | (scaled < -_FULL_SCALE)))
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), clamped


def encode_audio(samples: NDArray[np.int16], rate: int, audio_format: str) -> bytes:
    """Return the bytes of a 16-bit mono ``flac`` or ``wav`` file.

    They are encoded in memory, because libsndfile reports a full disk as a format error.
    """
    if audio_format not in FORMATS:
        raise InputError(f"unknown audio format '{audio_format}'; choose from {', '.join(FORMATS)}")
    buffer = BytesIO()
    soundfile.write(buffer, samples, rate, format=audio_format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def ark_entry(utterance: str, samples: NDArray[np.int16], rate: int) -> tuple[bytes, int]:
    """Encode FLAC audio as an entry of a Kaldi archive, for ESPnet's type ``kaldi_ark``.

    Returns:
        The bytes of the entry, and the offset of the audio in them, for the ``scp`` line.
    """
    buffer = BytesIO()
    options = {"format": "FLAC", "subtype": "PCM_16"}
    kaldiio.save_ark(buffer, {utterance: (rate, samples)}, write_function="soundfile", write_kwargs=options)
    return buffer.getvalue(), len(utterance.encode()) + 1
