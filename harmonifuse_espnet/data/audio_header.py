"""Checks that the header of an audio file and the audio in it agree, which libsndfile does not report as errors."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

_STREAMED_BYTES = 0x7FFFF000  # lengths from here on mean "unknown": the file was written to a pipe
_DECLARED = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OTHER_COUNT = re.compile(r"Frame count read from 'COMM' chunk \((\d+)\) not equal")
_MAX_TRAILING_BYTES = 64  # after the last chunk; some programs pad their files
_W64_CHUNK_HEADER = 24  # bytes, which count as part of the chunk
_MAX_HEADER_BYTES = 4096  # before the audio of an entry of an archive
_OGG_PAGE, _OGG_LAST = b"OggS", 4  # the flag of the last page
_OGG_MAX_PAGE = 65307  # bytes


def declared_frames(path: Path, file: soundfile.SoundFile, read: int) -> int:
    """Return the number of frames that the header declares; ``read``, the number that were read, if it does not tell.

    Args:
        path: Audio file.
        file: The same file, opened.
        read: Number of frames in the file.
    """
    if file.format == "NIST":
        with path.open("rb") as header:
            count = re.search(rb"sample_count -i\s+(\d+)", header.read(1024))
        return int(count[1]) if count else read
    if file.format == "AU":
        declared_bytes, present_bytes = _read_au_header(path)
        return -(-read * max(declared_bytes, present_bytes) // max(present_bytes, 1))
    if file.format in ("RF64", "W64"):
        return max(_declared_in_64_bits(file.extra_info), read)
    other = _OTHER_COUNT.search(file.extra_info)
    if other:
        return int(other[1])
    declared = _DECLARED.search(file.extra_info)
    if declared is None or int(declared[1]) >= _STREAMED_BYTES:
        return max(file.frames, read)
    declared_bytes, present_bytes = int(declared[1]), int(declared[2])
    return -(-file.frames * declared_bytes // max(present_bytes, 1)) if file.frames else declared_bytes


def _declared_in_64_bits(info: str) -> int:
    """Return the number of frames from libsndfile's description of a RF64 or W64 file; 0 if it is not there."""
    frames = re.search(r"^  Frames +: (\d+)", info, re.MULTILINE)
    size, align = (re.search(rf"^ *{name} *: (\d+)", info, re.MULTILINE) for name in ("data", "Block Align"))
    if frames or not size or not align:
        return int(frames[1]) if frames else 0
    return max(int(size[1]) - _W64_CHUNK_HEADER, 0) // max(int(align[1]), 1)


def declared_frames_in_ark(path: Path, offset: int) -> int | None:
    """Return the number of frames that a wav entry of a Kaldi archive declares; None if it does not tell.

    Args:
        path: Archive.
        offset: Position of the entry in bytes.
    """
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(_MAX_HEADER_BYTES)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position, align = 12, 1
    while position + 24 <= len(head):
        name, length = struct.unpack_from("<4sI", head, position)
        if name == b"fmt ":
            (align,) = struct.unpack_from("<H", head, position + 20)
        if name == b"data":
            return length // max(align, 1) if length < _STREAMED_BYTES else None
        position += 8 + length + length % 2
    return None


def _read_au_header(path: Path) -> tuple[int, int]:
    """Return the number of bytes of audio that an AU file declares, and the number that it has."""
    with path.open("rb") as header:
        content = header.read(12)
    offset, size = struct.unpack(">II" if content[:4] == b".snd" else "<II", content[4:])
    present = os.path.getsize(path) - offset
    return (present if size == 0xFFFFFFFF else size), present


def undeclared_bytes(path: Path, file: soundfile.SoundFile) -> int:
    """Return the number of bytes that belong to no chunk of a wav or AU file, without zero padding at the end.

    They are audio if the header declares fewer samples than there are. 0 for other formats.
    """
    if file.format == "AU":
        declared, present = _read_au_header(path)
        return max(present - declared, 0)
    return _bytes_after_chunks(path) if file.format in ("WAV", "WAVEX") else 0


def _bytes_after_chunks(path: Path) -> int:
    with path.open("rb") as file:
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff != b"RIFF" or wave != b"WAVE":
            return 0
        size, position = os.path.getsize(path), 12
        while position + 8 <= size:
            file.seek(position)
            name, length = struct.unpack("<4sI", file.read(8))
            if not all(32 <= byte < 127 for byte in name) or (name != b"data" and position + 8 + length > size):
                break
            position += 8 + length + length % 2
        file.seek(min(position, size))
        rest = file.read() if position < size else b""
    return len(rest) if len(rest) > _MAX_TRAILING_BYTES and any(rest) else 0


def is_complete_ogg(path: Path) -> bool:
    """Whether the last page of an Ogg file is marked as the last one."""
    with path.open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - _OGG_MAX_PAGE))
        tail = file.read()
    last = tail.rfind(_OGG_PAGE)
    return last >= 0 and len(tail) > last + 5 and bool(tail[last + 5] & _OGG_LAST)


def flac_md5_differs(path: Path, file: soundfile.SoundFile, samples: NDArray[np.float32]) -> bool:
    """Whether the MD5 sum of the samples (N,) of a 16-bit FLAC file differs from its header, as with a wrong length."""
    if file.format != "FLAC" or file.subtype != "PCM_16" or samples.ndim > 1:
        return False
    with path.open("rb") as header:
        start = header.read(42)
    expected = start[26:42]
    if start[:4] != b"fLaC" or not any(expected):  # 0: the encoder did not compute it
        return False
    return hashlib.md5(np.rint(samples * 32768).astype("<i2").tobytes()).digest() != expected
