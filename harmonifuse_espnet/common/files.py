"""Writing files so that each is complete or absent, and a full or read-only folder is one clear message."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import AccessError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Name the folder and the remedy when writing fails inside.

    Raises:
        OSError: for any OSError inside (no space, read-only, no permission, a file in the folder's place).
    """
    try:
        yield
    except OSError as error:
        raise AccessError(
            f"{folder}: cannot write here ({error.strerror or error}); free space or choose another folder, "
            "then call the command again: what was finished is kept"
        ) from error


def write_files(folder: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files (name -> content) into a folder, made where missing; the last name appears last.

    All are first written under temporary names, so that a full disk leaves the folder as it was.

    Raises:
        OSError: if the folder cannot be written.
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


def read_notes(path: Path) -> dict[str, Any]:
    """The JSON mapping that an earlier call may have left in a file; empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
