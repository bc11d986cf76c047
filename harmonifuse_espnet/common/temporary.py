"""Temporary files and folders, named by the process that writes them, so that those of killed calls are removed."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path


def temporary_path(path: Path) -> Path:
    """Return the temporary name of ``path`` for this process, in the same folder: ``.<name>.<host>.<pid>``."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}")


def remove_orphans(path: Path) -> None:
    """Remove the temporary files and folders of ``path`` whose process on this host has ended.

    ``path`` may have a pattern as its name, such as ``folder/*``.
    """
    for found in path.parent.glob(f".{path.name}.{_host()}.*"):
        pid = found.name.rpartition(".")[2]
        if pid.isdigit() and not _is_running(int(pid)):
            remove(found)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().replace(".", "-") or "localhost"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
