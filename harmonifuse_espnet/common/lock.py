"""A lock on a folder, so that two commands do not write into it at the same time."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from harmonifuse_espnet.common.errors import AccessError
from harmonifuse_espnet.common.files import writing

LOCK = ".lock"  # file name in the folder
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if it is missing, and removed again if it stays empty.

    The system releases the lock when the process ends, however it ends; it is not passed on to child processes.

    Raises:
        AccessError: if another process holds it; the message says which, on which machine and since when.
    """
    path = Path(folder) / LOCK
    existed = path.parent.is_dir()
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        os.truncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
        if not existed:
            with suppress(OSError):  # it is not empty
                path.parent.rmdir()


def _open_locked(path: Path) -> int:
    """Return the descriptor of the lock file, locked by this process."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            content = os.pread(file, 1000, 0)
            os.close(file)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise AccessError(_busy(path.parent, content)) from error
            if error.errno not in _UNSUPPORTED:
                raise
            logging.warning("%s: this file system has no locks; run only one command at a time there", path.parent)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if _is_current(file, path):
            return file
        os.close(file)  # the previous owner has removed this file meanwhile


def _is_current(file: int, path: Path) -> bool:
    """Whether an open file is still at its path; opening the path again would release the lock."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _busy(folder: Path, content: bytes) -> str:
    """Return the error message for a folder whose lock file has this content."""
    try:
        owner = json.loads(content)
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
        remedy = f"wait until it has ended, or stop it: kill {owner['pid']}"
    except (ValueError, KeyError, TypeError, RecursionError):  # it has just started
        who, remedy = "another process", "wait until it has ended"
    return f"{folder}: {who}, is working in this folder; {remedy}"
