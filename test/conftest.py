"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with an4/, crema_d/ and mini_librispeech/: ``HARMONIFUSE_DATA``, or ``../shared/data``."""
    folder = Path(os.environ.get("HARMONIFUSE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder; set HARMONIFUSE_DATA")
    return folder


@pytest.fixture(autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of unpacked models, so that no test writes to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "model_cache"
    monkeypatch.setenv("HARMONIFUSE_MODEL_CACHE", str(folder))
    return folder
