"""Audio files: read one of any kind into mono samples, resample, turn into 16-bit bytes. No torch unless resampling."""

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

SAMPLE_RATE = 16000  # hertz, of everything that the model hears
FORMATS = ("flac", "wav")
_FULL_SCALE = 32768
_STREAMED = 0x7FFFF000  # lengths from here up are what programs write into a header that they cannot go back to
_UNKNOWN = 1 << 48  # libsndfile's frames, or more, where a FLAC header does not say
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_IN_ARK = re.compile(r"(?P<ark>.+):\d+$")


def file_of(location: str) -> Path:
    """The file that a ``wav.scp`` entry names: the path itself, or the archive of ``archive.ark:offset``."""
    in_ark = _IN_ARK.match(location)
    return Path(in_ark["ark"]) if in_ark and not Path(location).is_file() else Path(location)


def read_audio(location: str, expected_rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Read one audio file (anything libsndfile reads), or one entry of a Kaldi archive.

    Args:
        location: A path, or ``archive.ark:offset``, as ``wav.scp`` has it; relative to the working directory.
        expected_rate: The sampling rate that it must have, in hertz; None for any.

    Returns:
        Samples in [-1, 1], shape (N,), N > 0, and the sampling rate in hertz.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no audio, is cut short, is empty, has several channels or another rate.
    """
    path = file_of(location)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such audio file; correct the path in wav.scp or restore the file")
    samples, rate = _read_file(path) if path == Path(location) else _read_ark(location)
    if samples.ndim > 1:
        raise InputError(f"{location}: {samples.shape[1]} channels where one is needed; choose or mix one first")
    if not samples.size:
        raise InputError(f"{location}: the audio is empty (0 samples)")
    if expected_rate not in (None, rate):
        raise InputError(
            f"{location}: sampled at {rate} Hz, expected {expected_rate} Hz; format_audio (stage 2) resamples"
        )
    return samples, rate


def _read_file(path: Path) -> tuple[NDArray[np.float32], int]:
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames >= _UNKNOWN:
                raise InputError(f"{path}: the header gives no length; write the file anew, for example by ffmpeg")
            declared = max(file.frames, _declared_frames(path, file))
            samples = file.read(dtype="float32")
            rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: not audio, or damaged ({error.error_string})") from error
    if len(samples) < declared:
        raise InputError(f"{path}: cut short, {len(samples)} samples are left of {declared}")
    return samples, rate


def _declared_frames(path: Path, file: soundfile.SoundFile) -> int:
    """How many frames the header promises; libsndfile silently believes the file's length instead."""
    if file.format == "NIST":
        with path.open("rb") as header:
            count = re.search(rb"sample_count -i (\d+)", header.read(1024))
        return int(count[1]) if count else 0
    cut = _CUT_SHORT.search(file.extra_info)
    if cut is None or int(cut[1]) >= _STREAMED:
        return 0
    return file.frames * int(cut[1]) // max(int(cut[2]), 1) if file.frames else int(cut[1])


def _read_ark(location: str) -> tuple[NDArray[np.float32], int]:
    try:
        entry = kaldiio.load_mat(location)
    except (soundfile.LibsndfileError, ValueError, EOFError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(f"{location}: no audio entry of a Kaldi archive, or damaged ({error})") from error
    if not isinstance(entry, tuple):
        raise InputError(f"{location}: the archive holds a matrix here, not audio")
    rate, samples = entry
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / _FULL_SCALE, int(rate)
    return samples.astype(np.float32), int(rate)


def resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Resample by torchaudio (windowed sinc); shape (N,) -> (ceil(N * target / rate),). Equal rates change nothing.

    Overshoot is not cut off here: near full scale the result may leave [-1, 1].
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
    """Round samples in [-1, 1] to 16 bit; those beyond full scale are clamped, and counted.

    16-bit audio that was read by :func:`read_audio` comes back exactly.

    Example:
        >>> to_16_bit(np.array([0.5, -1.0, 1.5], dtype=np.float32))
        (array([ 16384, -32768,  32767], dtype=int16), 1)
    """
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    clamped = int(np.count_nonzero((scaled > _FULL_SCALE) | (scaled < -_FULL_SCALE)))
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), clamped


def encode(samples: NDArray[np.int16], rate: int, audio_format: str) -> bytes:
    """The bytes of a 16-bit mono ``flac`` or ``wav`` file; made in memory, so that a full disk is an OSError."""
    if audio_format not in FORMATS:
        raise InputError(f"unknown audio format '{audio_format}'; known are {', '.join(FORMATS)}")
    buffer = BytesIO()
    soundfile.write(buffer, samples, rate, format=audio_format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def ark_entry(utterance: str, samples: NDArray[np.int16], rate: int) -> tuple[bytes, int]:
    """One entry of a Kaldi archive, FLAC inside, which ESPnet's ``kaldi_ark`` reads back as samples in [-1, 1].

    Returns:
        The entry's bytes, and the offset in them that an scp line points to.
    """
    buffer = BytesIO()
    options = {"format": "FLAC", "subtype": "PCM_16"}
    kaldiio.save_ark(buffer, {utterance: (rate, samples)}, write_function="soundfile", write_kwargs=options)
    return buffer.getvalue(), len(utterance.encode()) + 1
