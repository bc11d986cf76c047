"""A copy of a recipe with its real shell scripts and a Python that records its calls."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRISPEECH = "train_clean_100 train_clean_360 train_other_500 dev_clean dev_other test_clean test_other"
SETS = {
    "an4_crema_d": "train_an4 train_crema_d dev_an4 dev_crema_d test_an4 test_crema_d",
    "mini": "train_asr train_ser dev_asr dev_ser test_asr test_ser_sentences test_ser_voices",
    "librispeech": LIBRISPEECH,
    "iemocap": "train_ser dev_ser test_ser train_asr dev_asr test_asr",
    "librispeech_iemocap": f"{LIBRISPEECH} train_iemocap dev_iemocap test_iemocap",
}
LOCAL_DATA = """#!/usr/bin/env bash
set -euo pipefail
echo "local/data.sh $*"
for name in ${SETS}; do mkdir -p "$2/$name"; echo "utt audio" >"$2/$name/wav.scp"; done
"""


class Recipe:
    """A copy of a recipe's folder, run with the recording Python; its local/data.sh only creates empty sets."""

    def __init__(self, name: str, folder: Path) -> None:
        shutil.copytree(ROOT / "egs2" / "TEMPLATE", folder / "egs2" / "TEMPLATE", symlinks=True)
        skip = shutil.ignore_patterns("data", "dump", "exp", "downloads", "corpus", "images", "RESULTS.md")
        shutil.copytree(ROOT / "egs2" / name, folder / "egs2" / name, symlinks=True, ignore=skip)
        self.dir = folder / "egs2" / name / "slm1"
        self.record = folder / "record.jsonl"
        self.python = folder / "recording python"
        script = Path(__file__).with_name("recording_python.py")
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
        self.python.chmod(0o755)
        (self.dir / "local").mkdir(exist_ok=True)
        (self.dir / "local" / "data.sh").write_text(LOCAL_DATA, encoding="utf-8")
        (self.dir / "local" / "data.sh").chmod(0o755)
        (self.dir / "conf" / "train.yaml").write_text("max_epoch: 1\n", encoding="utf-8")
        self.sets = SETS[name]

    def run(self, *options: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run run.sh with the default tokenizer of slm.sh; standard error is part of standard output."""
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "OMP_NUM_THREADS")}
        environment |= {"RECORD": str(self.record), "PYTHON": str(self.python), "SETS": self.sets} | variables
        tokenizer = ["--tokenizer_type", "unigram", "--vocab_size", "100", "--ctc_tokenizer_type", ""]
        command = [str(self.dir / "run.sh"), *tokenizer, *options]
        return subprocess.run(
            command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )

    def calls(self) -> list[list[str]]:
        """The arguments of every Python call so far."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]

    def commands(self) -> list[str]:
        """The command of every Python call so far: ``format_audio`` and so on."""
        prefix = "harmonifuse_espnet.bin."
        return [word.removeprefix(prefix) for call in self.calls() for word in call if word.startswith(prefix)]


@pytest.fixture
def mini(tmp_path: Path) -> Recipe:
    """The mini recipe, at a path with spaces and a quote."""
    return Recipe("mini", tmp_path / "it's a path")


@pytest.fixture
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Recipe:
    """The recipe that a test is parametrized with, by name."""
    return Recipe(request.param, tmp_path)
