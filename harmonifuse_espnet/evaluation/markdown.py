"""Markdown of generated results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def section(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a third-level heading and a table."""
    return f"### {title}\n\n{table(header, rows)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        |a|b|
        |---|---|
        |1|2|
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"|{'|'.join(cells)}|" for cells in lines)


def link(path: Path, out_dir: Path, text: str = "") -> str:
    """Return a link to a file, relative to ``out_dir``; without ``text``, the relative path is the text."""
    relative = Path(os.path.relpath(path, out_dir)).as_posix()
    return f"[{text or relative}]({relative})"
