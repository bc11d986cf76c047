"""Audio files: read any format as mono samples, resample, encode as 16 bit. PyTorch is imported only to resample."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kaldiio
import numpy as np
import soundfile
from kaldiio import python_wave
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.text import LFS_POINTER
from harmonifuse_espnet.data.audio_header import (
    declared_frames,
    declared_frames_in_ark,
    flac_md5_differs,
    is_complete_ogg,
    undeclared_bytes,
)

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16000  # hertz, of all audio that the model reads
FORMATS = ("flac", "wav")
_FULL_SCALE = 32768
_UNKNOWN_FRAMES = 1 << 48  # libsndfile reports at least this many frames if a FLAC header has no length
_ARK_ERRORS = (  # of kaldiio for an entry that is damaged, or not there
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    python_wave.Error,
)
_IN_ARK = re.compile(r"(?P<ark>.+):\d+$")


def audio_file(location: str) -> Path:
    """Return the file of a ``wav.scp`` entry: the path itself, or the archive of ``archive.ark:offset``."""
    in_ark = _IN_ARK.match(location)
    return Path(in_ark["ark"]) if in_ark and not Path(location).is_file() else Path(location)


def audio_stat(location: str) -> tuple[int, int]:
    """Return the size and the modification time in ns of the file of a ``wav.scp`` entry; (-1, -1) if it is missing."""
    path = audio_file(location)
    if not path.is_file():
        return -1, -1
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def find_audio(location: str) -> Path:
    """Return the existing file of a ``wav.scp`` entry.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if the entry is a command, as Kaldi allows.
    """
    path = audio_file(location)
    if path.is_file():
        return path
    if location.rstrip().endswith("|"):
        raise InputError(
            f"{location!r}: a command (pipe), which is not run; run it once, and put the file that it writes into "
            "wav.scp"
        )
    raise MissingFileError(f"{path}: no such audio file; correct the path in wav.scp or restore the file")


def read_audio(
    location: str, expected_rate: int | None = None, verify: bool = False
) -> tuple[NDArray[np.float32], int]:
    """Read one audio file (any format of libsndfile), or one entry of a Kaldi archive.

    Args:
        location: A path, or ``archive.ark:offset``, as in ``wav.scp``; relative to the working directory.
        expected_rate: Required sampling rate in hertz; None for any.
        verify: Whether to compare a FLAC file with the MD5 sum in its header, for files of other programs.

    Returns:
        Samples in [-1, 1], shape (N,), N > 0, and the sampling rate in hertz.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if the file is not audio, is truncated or empty, has a sample that is not a finite number, or has
            several channels or another rate.
    """
    path = find_audio(location)
    samples, rate = _read_file(path, verify) if path == Path(location) else _read_ark(location)
    if samples.ndim > 1:
        raise InputError(f"{location}: {samples.shape[1]} channels, expected 1; select one or mix them down")
    if not samples.size:
        raise InputError(f"{location}: the audio is empty (0 samples); restore the file or remove the utterance")
    check_finite(samples, rate, location)
    if expected_rate not in (None, rate):
        raise InputError(
            f"{location}: sampling rate {rate} Hz, expected {expected_rate} Hz; format_audio (stage 2) resamples"
        )
    return samples, rate


def check_finite(samples: NDArray[np.float32], rate: int, where: str) -> None:
    """Check that all samples (N,) are finite numbers; ``where`` names the file for the error message.

    Raises:
        InputError: if a sample is NaN or infinite; the message has their number and the time of the first.
    """
    bad = ~np.isfinite(samples)
    if bad.any():
        raise InputError(
            f"{where}: {np.count_nonzero(bad)} of {len(samples)} samples are NaN or infinite, the first at "
            f"{int(bad.argmax()) / rate:.3f} s; restore the file or remove the utterance"
        )


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer of git-lfs, which has not downloaded the file itself."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _read_file(path: Path, verify: bool) -> tuple[NDArray[np.float32], int]:
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty (0 bytes); restore it or remove the utterance")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames >= _UNKNOWN_FRAMES:
                raise InputError(
                    f"{path}: the header does not state the length; convert the file, for example with ffmpeg"
                )
            samples = file.read(dtype="float32")
            declared = declared_frames(path, file, len(samples))
            damaged = verify and flac_md5_differs(path, file, samples)
            undeclared = undeclared_bytes(path, file)
            complete = file.format != "OGG" or is_complete_ogg(path)
            rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        if is_lfs_pointer(path):
            raise InputError(f"{path}: a git-lfs pointer, not audio; run 'git lfs pull' in its repository") from error
        reason = error.error_string.rstrip(".") or "incomplete"
        raise InputError(f"{path}: not audio, or damaged ({reason}); restore the file") from error
    if len(samples) < declared or not complete:
        count = f"{len(samples)} of {declared} samples" if len(samples) < declared else f"{len(samples)} samples"
        raise InputError(f"{path}: truncated, {count}; restore the file")
    if len(samples) > declared or undeclared:
        more = f"{undeclared} bytes follow" if undeclared else f"the file has {len(samples)}"
        raise InputError(
            f"{path}: the header declares {declared} samples, but {more}; convert the file, for example with ffmpeg"
        )
    if damaged:
        raise InputError(f"{path}: the audio differs from the MD5 sum in the header; restore the file")
    return samples, rate


def _read_ark(location: str) -> tuple[NDArray[np.float32], int]:
    path, offset = location.rsplit(":", 1)
    if is_lfs_pointer(Path(path)):
        raise InputError(f"{path}: a git-lfs pointer, not an archive; run 'git lfs pull' in its repository")
    try:
        entry = kaldiio.load_mat(location)
    except _ARK_ERRORS as error:
        reason = " ".join(str(error).split()).rstrip(".") or "incomplete"
        raise InputError(
            f"{location}: not an audio entry of a Kaldi archive, or damaged ({reason}); write the archive again"
        ) from error
    if not isinstance(entry, tuple):
        raise InputError(f"{location}: this entry of the archive is a matrix, not audio; write audio into wav.scp")
    rate, samples = entry
    declared = declared_frames_in_ark(Path(path), int(offset)) or len(samples)
    if len(samples) < declared:
        raise InputError(f"{location}: truncated, {len(samples)} of {declared} samples; write the archive again")
    return as_float(samples, location), int(rate)


def as_float(samples: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return samples (N,) in [-1, 1]; integers are divided by the full scale of their type.

    Raises:
        InputError: if they have another type than those of audio files.

    Example:
        >>> as_float(np.array([16384, -32768], dtype=np.int16), "speech")
        array([ 0.5, -1. ], dtype=float32)
        >>> as_float(np.array([128, 192], dtype=np.uint8), "speech")
        array([0. , 0.5], dtype=float32)
    """
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype not in (np.int16, np.int32, np.uint8):
        raise InputError(
            f"{where}: samples of type {samples.dtype}, expected int16, int32 or uint8 (full scale), or floating-point "
            "numbers in [-1, 1]"
        )
    info = np.iinfo(samples.dtype)
    middle = 0 if info.min else (info.max + 1) // 2  # unsigned samples have their zero in the middle
    scale = float(info.max) + 1.0 - middle
    return ((samples.astype(np.float64) - middle) / scale).astype(np.float32)


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
