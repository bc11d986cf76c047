"""The benchmarks run from the command line and print their tables."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import save_encoder

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_encoder_s_table(tmp_path: Path) -> None:
    options = ["--lengths", "2", "--batches", "1", "--repeats", "2", "--device", "cpu"]
    title, header, line = bench("encoder", "--model", save_encoder(tmp_path), *options).splitlines()
    assert title.startswith(f"{tmp_path}, cpu, 1 threads, torch ") and header.split()[:2] == ["seconds", "batch"]
    seconds, batch, *figures = line.split()
    assert (seconds, batch, len(figures)) == ("2", "1", 7)
    assert float(figures[0]) > 0 and float(figures[1]) > 0 and float(figures[-1]) < 1e-4


def test_batches_have_equal_and_ragged_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    encoder = importlib.import_module("benchmarks.encoder")
    args = argparse.Namespace(model="wavlm-large", device="cpu", lengths=[0.3, 3], batches=[1, 3], threads=1)
    cases = list(encoder.cases(args))
    assert [(case.seconds, case.batch, case.ragged) for case in cases] == [
        (seconds, *rest) for seconds in (0.3, 3) for rest in ((1, False), (3, False), (3, True))
    ]
    assert [case.speech()[1].tolist() for case in cases[-2:]] == [[48000] * 3, [48000, 32000, 16000]]


def test_help_names_the_benchmarks() -> None:
    assert "encoder" in bench("--help")
