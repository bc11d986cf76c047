"""Cache of unpacked models, in the user's cache folder: each archive is unpacked once, under its SHA-256 sum.

A cache folder holds::

    <sum>/model/          the files of the archive
    <sum>/manifest.json   the size of each file, by which a damaged cache is noticed
    urls/<sum of URL>.json   the archive that a URL led to, and its ETag

The folder is ``$HARMONIFUSE_MODEL_CACHE``, or ``harmonifuse_espnet/models`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import AccessError, UserError
from harmonifuse_espnet.common.files import remove, remove_orphans, temporary_path, write_files, writing
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.inference.archive import BLOCK, unpack, write_blocks

MODEL, MANIFEST = "model", "manifest.json"
TIMEOUT_SECONDS = 60.0  # without a response


def cache_dir() -> Path:
    """Return the cache folder, which need not exist; a relative ``XDG_CACHE_HOME`` is ignored, as its standard says."""
    own = os.environ.get("HARMONIFUSE_MODEL_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "harmonifuse_espnet" / "models"


def unpack_once(archive: Path, check: Callable[[Path], object]) -> Path:
    """Return the folder with the files of an archive; it is unpacked if the cache does not have it intact.

    Args:
        archive: A zip or tar archive.
        check: Raises an error if the unpacked folder is no packed model; it is then removed again.

    Raises:
        InputError: if the archive cannot be unpacked safely.
        AccessError: if the cache cannot be written.
    """
    entry = cache_dir() / _sha256(archive)
    if is_intact(entry):
        return entry / MODEL
    with writing(entry.parent):
        entry.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(entry.parent)
    temporary = temporary_path(entry)
    try:
        remove(temporary)
        with writing(entry.parent):
            (temporary / MODEL).mkdir(parents=True)
        sizes = unpack(archive, temporary / MODEL)
        check(temporary / MODEL)
        write_files(temporary, {MANIFEST: json.dumps(sizes, indent=1) + "\n"})
        _install(temporary, entry)
    finally:
        remove(temporary)
    return entry / MODEL


def is_intact(entry: Path) -> bool:
    """Return whether a folder of the cache has a manifest, and every file in it has the size in the manifest."""
    try:
        sizes = read_json(entry / MANIFEST, "")
        return all((entry / MODEL / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):  # also UserError: no manifest, or damaged
        return False


def download_once(url: str, check: Callable[[Path], object]) -> Path:
    """Return the folder with the files of the archive at ``url``; it is downloaded if it has changed or is not cached.

    Without a connection, the cached archive is used, with a warning.

    Raises:
        InputError: if the archive cannot be unpacked safely.
        AccessError: if it cannot be downloaded, or the cache cannot be written.
    """
    record = cache_dir() / "urls" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    known = _read_record(record)
    entry = cache_dir() / known.get("sha256", "none")
    cached = is_intact(entry)
    with writing(record.parent):
        record.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(record.parent)
    archive = temporary_path(record)
    try:
        etag = _fetch(url, archive, known.get("etag") if cached else None)
        if etag is None:  # not modified
            return entry / MODEL
        folder = unpack_once(archive, check)
        entries = {"url": url, "sha256": folder.parent.name, "etag": etag}
        write_files(record.parent, {record.name: json.dumps(entries, indent=1) + "\n"})
        return folder
    except ConnectionError as error:
        if not cached:
            raise AccessError(f"{url}: cannot be downloaded ({error}); check the address and the connection") from error
        logging.warning(f"{url}: no connection ({error}); the model that was downloaded before is used")
        return entry / MODEL
    finally:
        remove(archive)


def _install(temporary: Path, entry: Path) -> None:
    """Rename an unpacked folder to its place, unless another process was faster; a damaged one is replaced."""
    with writing(entry.parent):
        if entry.exists() and not is_intact(entry):
            damaged = temporary_path(entry.with_name(f"damaged-{entry.name}"))
            os.replace(entry, damaged)
            remove(damaged)
        try:
            os.replace(temporary, entry)
        except OSError:
            if not is_intact(entry):
                raise


def _fetch(url: str, path: Path, etag: str | None) -> str | None:
    """Download ``url`` to ``path`` and return its ETag, '' without one; return None if ``etag`` is still current.

    Raises:
        ConnectionError: if the server cannot be reached or refuses, or the connection is interrupted.
    """
    request = urllib.request.Request(url, headers={"If-None-Match": etag} if etag else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            expected = response.headers["Content-Length"]
            received = write_blocks(path, response.read)
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return None
        raise ConnectionError(f"the server responds {error.code} {error.reason}") from error
    except AccessError:
        raise
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    if expected is not None and received != int(expected):
        raise ConnectionError(f"interrupted after {received:,} of {int(expected):,} bytes")
    return response.headers["ETag"] or ""


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path, "")
    except UserError:  # not there, or damaged
        return {}
    return record if isinstance(record, dict) else {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
