"""Fixtures for figures that are not written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from harmonifuse_espnet.evaluation.plots import curves, gates, heat_maps


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be written, laid out."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        figure.draw_without_rendering()
        figures.append(figure)

    for module in (curves, gates, heat_maps):
        monkeypatch.setattr(module, "write_png", keep)
    return figures


@pytest.fixture
def inside() -> Callable[[Figure], bool]:
    """A function that checks that nothing of a figure is cut off at its edges."""

    def check(figure: Figure) -> bool:
        needed, size = figure.get_tightbbox(), figure.get_size_inches()
        return needed.x0 > -0.02 and needed.y0 > -0.02 and needed.x1 < size[0] + 0.02 and needed.y1 < size[1] + 0.02

    return check
