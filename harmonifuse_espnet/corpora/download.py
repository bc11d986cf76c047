"""Bring an archive from the web: resumed where it was cut, checked by its MD5 sum, unpacked safely."""

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
TRIES, WAIT, TIMEOUT = 5, 3.0, 60.0  # tries without a new byte; seconds between two; seconds without an answer


class Cut(Exception):
    """The connection did not come about, or broke."""


def fetch(url: str, path: Path, md5: str) -> None:
    """Download ``url`` to ``path``; what a broken call left in ``path.part`` is gone on with.

    Raises:
        OSError: if the server refuses or stays away, or the folder cannot be written.
        ValueError: if the sum is wrong; the download is then removed.
    """
    if path.is_file():
        return
    part = path.with_name(f"{path.name}.part")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    tries, cause = TRIES, ""
    while tries:
        before = part.stat().st_size
        try:
            _receive(url, part)
            break
        except Cut as error:
            cause = str(error)
        tries = TRIES if part.stat().st_size > before else tries - 1
        time.sleep(WAIT)
    else:
        raise AccessError(
            f"{url}: {cause}, after {part.stat().st_size:,} bytes, {TRIES} times in a row; "
            "call the command again when the network is back: it goes on from there"
        )
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise InputError(
            f"{url}: MD5 sum {found}, published is {md5}; the damaged download was removed: call the command again, "
            "perhaps with a mirror's --base_url"
        )
    part.replace(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a gzipped tar; no member can leave the folder.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if the archive is damaged, or a member would leave the folder.
    """
    try:
        with writing(folder), open(archive, "rb") as file:
            blocks = _Blocks(_counted(_blocks(file), archive.stat().st_size, f"MiB of {archive.name} unpacked"))
            with tarfile.open(fileobj=blocks, mode="r|gz", bufsize=BLOCK) as members:  # type: ignore[call-overload]
                members.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); remove it and call the command again") from error


class _Blocks:
    """A file for ``tarfile`` to stream from: each read is the next block, whatever its size."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks

    def read(self, size: int) -> bytes:
        return next(self.blocks, b"")


def _receive(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks, or write it anew where the server sends only whole files."""
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # there is nothing after what we have
            return
        raise AccessError(f"{url}: the server answers {error.code} {error.reason}; check --base_url") from error
    except (OSError, HTTPException) as error:
        raise Cut(f"no connection ({error})") from error
    if "Content-Length" not in answer.headers:
        raise AccessError(f"{url}: the server sends no Content-Length, so a cut could not be noticed; try a mirror")
    left = int(answer.headers["Content-Length"])
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        for block in _counted(_arriving(answer), left, f"MiB of {part.stem}"):
            with writing(part.parent):
                file.write(block)
            left -= len(block)
    if left:
        raise Cut("the connection was cut")


def _arriving(answer: HTTPResponse) -> Iterator[bytes]:
    try:
        yield from _blocks(answer)
    except (OSError, HTTPException) as error:
        raise Cut(f"the connection was cut ({error})") from error


def _blocks(stream: BinaryIO | HTTPResponse) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _counted(blocks: Iterator[bytes], size: int, what: str) -> Iterator[bytes]:
    """The blocks of ``size`` bytes, with progress."""
    return progress(blocks, math.ceil(size / BLOCK), what)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for block in _counted(_blocks(file), path.stat().st_size, f"MiB of {path.stem} checked"):
            digest.update(block)
    return digest.hexdigest()
