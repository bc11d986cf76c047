"""Atomic writing of files, with a clear error message for a full disk or a read-only folder.

A file is written under a temporary name, forced to the disk, and renamed: a kill or a power failure leaves the old or
the new content. Temporary files of killed processes are removed when the next process writes into the folder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harmonifuse_espnet.common.errors import AccessError

_HOST = re.sub(r"[^\w.]", "_", socket.gethostname())[:40]
_TEMPORARY = re.compile(r"\..*\.(?P<host>[\w.]+)-(?P<pid>\d+)\.tmp")
_MAX_AGE_SECONDS = 7 * 24 * 3600  # of another machine's temporary file, whose process cannot be checked
_swept: set[tuple[int, str]] = set()  # (process, folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Convert an ``OSError`` of the ``with`` block (disk full, no permission) to an ``AccessError`` with the folder."""
    try:
        yield
    except AccessError:
        raise
    except OSError as error:
        remedy = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its permissions"
        raise AccessError(
            f"{folder}: cannot write to this folder ({error.strerror or error}); {remedy} or choose another one, "
            "then run the command again; completed work is kept"
        ) from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; after the ``with`` block, the file written there replaces ``path``.

    On an error, the temporary file is removed. The folder is created if it is missing.

    Raises:
        AccessError: if the folder cannot be written.
    """
    path = Path(path)
    temporary = temporary_path(path)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(path.parent)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_files(folder: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files (name -> content) into a folder, which is created if it is missing.

    All files are first written under temporary names and then renamed in the given order. A full disk leaves the
    folder unchanged; if the last file exists, all of them exist.

    Raises:
        AccessError: if the folder cannot be written.
    """
    folder = Path(folder)
    temporary = {name: temporary_path(folder / name) for name in contents}
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_orphans(folder)
            for name, content in contents.items():
                temporary[name].parent.mkdir(parents=True, exist_ok=True)
                temporary[name].write_bytes(content.encode() if isinstance(content, str) else content)
                _sync(temporary[name])
            for name in contents:
                os.replace(temporary[name], folder / name)
            _sync(folder)
        finally:
            for path in temporary.values():
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return the temporary path for a new ``path``; its name has the machine and the process."""
    return path.with_name(f".{path.name[:100]}.{_HOST}-{os.getpid()}.tmp")


def remove_orphans(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder, once per folder and process.

    Files of living processes are kept, and those of other machines for a week.
    """
    key = os.getpid(), os.path.abspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and _is_orphan(match["host"], int(match["pid"]), Path(entry)):
                remove(Path(entry))


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_orphan(host: str, pid: int, path: Path) -> bool:
    if host == _HOST:
        return not is_alive(pid)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _MAX_AGE_SECONDS
    return False


def _sync(path: Path) -> None:
    """Force a file or folder to the disk; some network file systems do not support this for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
