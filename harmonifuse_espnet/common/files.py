"""Atomic writing of files, with a clear error message for a full disk or a read-only folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harmonifuse_espnet.common.errors import AccessError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Convert an ``OSError`` of the ``with`` block (disk full, no permission) to an ``AccessError`` with the folder."""
    try:
        yield
    except OSError as error:
        raise AccessError(
            f"{folder}: cannot write to this folder ({error.strerror or error}); free space or choose another one, "
            "then run the command again; completed work is kept"
        ) from error


def write_files(folder: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files (name -> content) into a folder, which is created if it is missing.

    All files are first written under temporary names and then renamed in the given order. A full disk leaves the
    folder unchanged; if the last file exists, all of them exist.

    Raises:
        AccessError: if the folder cannot be written.
    """
    folder = Path(folder)
    temporary = {name: folder / f".{name}.{os.getpid()}" for name in contents}
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                temporary[name].write_bytes(content.encode() if isinstance(content, str) else content)
            for name in contents:
                os.replace(temporary[name], folder / name)
        finally:
            for path in temporary.values():
                path.unlink(missing_ok=True)
