"""Figures as PNG files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from harmonifuse_espnet.common.files import write_files


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure; equal figures give equal bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    write_files(path.parent, {path.name: buffer.getvalue()})
