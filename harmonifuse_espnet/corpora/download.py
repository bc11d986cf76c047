"""Download an archive (resumable, verified by its MD5 sum) and unpack it safely."""

from __future__ import annotations

import hashlib
import math
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from harmonifuse_espnet.common.errors import AccessError, InputError
from harmonifuse_espnet.common.files import writing
from harmonifuse_espnet.common.progress import progress

BLOCK = 2**20  # bytes
MAX_ATTEMPTS = 5  # in a row without a new byte
WAIT_SECONDS = 3.0  # between two attempts
TIMEOUT_SECONDS = 60.0  # without a response


class ConnectionLost(Exception):
    """The connection failed or was interrupted."""


def fetch(url: str, path: Path, md5: str) -> None:
    """Download ``url`` to ``path``; an interrupted download, ``path.part``, is resumed.

    Raises:
        AccessError: if the server refuses or does not respond, or the folder cannot be written.
        InputError: if the MD5 sum is wrong; the file is removed.
    """
    if path.is_file():
        return
    part = path.with_name(f"{path.name}.part")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    attempts, cause = MAX_ATTEMPTS, ""
    while attempts:
        before = part.stat().st_size
        try:
            _receive(url, part)
            break
        except ConnectionLost as error:
            cause = str(error)
        attempts = MAX_ATTEMPTS if part.stat().st_size > before else attempts - 1
        time.sleep(WAIT_SECONDS)
    else:
        raise AccessError(
            f"{url}: {cause}, after {part.stat().st_size:,} bytes, {MAX_ATTEMPTS} times in a row; "
            "run the command again to resume the download"
        )
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise InputError(
            f"{url}: MD5 sum {found}, expected {md5}; the damaged file was removed; run the command again, "
            "or use a mirror (--base_url)"
        )
    part.replace(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a gzipped tar archive; no member is written outside the folder.

    Raises:
        AccessError: if the folder cannot be written.
        InputError: if the archive is damaged, or has a member outside the folder.
    """
    try:
        with writing(folder), open(archive, "rb") as file:
            blocks = _Blocks(
                _with_progress(_read_blocks(file), archive.stat().st_size, f"MiB of {archive.name} unpacked")
            )
            with tarfile.open(fileobj=blocks, mode="r|gz", bufsize=BLOCK) as members:  # type: ignore[call-overload]
                members.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); remove it and run the command again") from error


class _Blocks:
    """A file object for ``tarfile``; each read returns the next block and ignores ``size``."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks

    def read(self, size: int) -> bytes:
        return next(self.blocks, b"")


def _receive(url: str, part: Path) -> None:
    """Append the missing bytes to ``part``; if the server cannot resume, rewrite it from the start."""
    size = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if size and error.code == 416:  # range not satisfiable: the file is complete
            return
        raise AccessError(f"{url}: the server responds {error.code} {error.reason}; check --base_url") from error
    except (OSError, HTTPException) as error:
        raise ConnectionLost(f"no connection ({error})") from error
    if "Content-Length" not in response.headers:
        raise AccessError(
            f"{url}: the server sends no Content-Length, so an interruption would not be detected; use a mirror "
            "(--base_url)"
        )
    left = int(response.headers["Content-Length"])
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        for block in _with_progress(_receive_blocks(response), left, f"MiB of {part.stem}"):
            with writing(part.parent):
                file.write(block)
            left -= len(block)
    if left:
        raise ConnectionLost("the connection was interrupted")


def _receive_blocks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        yield from _read_blocks(response)
    except (OSError, HTTPException) as error:
        raise ConnectionLost(f"the connection was interrupted ({error})") from error


def _read_blocks(stream: BinaryIO | HTTPResponse) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _with_progress(blocks: Iterator[bytes], size: int, unit: str) -> Iterator[bytes]:
    """Yield blocks of ``size`` bytes in total, with progress."""
    return progress(blocks, math.ceil(size / BLOCK), unit)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for block in _with_progress(_read_blocks(file), path.stat().st_size, f"MiB of {path.stem} verified"):
            digest.update(block)
    return digest.hexdigest()
