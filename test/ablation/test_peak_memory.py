"""Peak memory of the largest process of a command, without the caller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harmonifuse_espnet.ablation import peak_memory


def peak(file: Path, program: str) -> tuple[int, int]:
    """Return exit status and bytes of a shell program, which may call ``$PYTHON``."""
    command = [sys.executable, peak_memory.__file__, str(file), "sh", "-c", program]
    done = subprocess.run(command, env={"PYTHON": sys.executable}, check=False, timeout=60)
    return done.returncode, int(file.read_text())


def test_the_peak_is_that_of_the_largest_process_without_the_caller(tmp_path: Path) -> None:
    own = bytearray(400_000_000)  # of this process
    own[::4096] = b"x" * len(own[::4096])
    small = peak(tmp_path / "small", "exit 0")[1]
    large = peak(tmp_path / "large", '"$PYTHON" -c "x = b\'1\' * 200_000_000" | cat')[1]
    assert small < 50_000_000 < 200_000_000 < large < 300_000_000


@pytest.mark.parametrize(("program", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 128 + 15)])
def test_the_exit_status_is_that_of_the_command(tmp_path: Path, program: str, status: int) -> None:
    assert peak(tmp_path / "peak", program)[0] == status
