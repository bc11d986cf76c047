"""Only one process works in a folder; the lock of a dead process is taken over."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harmonifuse_espnet.common.errors import AccessError
from harmonifuse_espnet.common.lock import LOCK, lock_folder

HOLD = """
import sys
from harmonifuse_espnet.common.lock import lock_folder
with lock_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, code: str = HOLD) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    return process


def test_the_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    first = hold(tmp_path)
    with pytest.raises(AccessError) as error, lock_folder(tmp_path):
        pass
    message = re.sub(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "since <time>", str(error.value))
    assert message == (
        f"{tmp_path}: process {first.pid} on {socket.gethostname()}, since <time>, is working in this folder; "
        f"wait until it has ended, or stop it: kill {first.pid}"
    )
    first.communicate()
    with lock_folder(tmp_path):
        assert (tmp_path / LOCK).is_file()
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    first = hold(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (tmp_path / LOCK).is_file()
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_child_processes_do_not_keep_the_lock(tmp_path: Path) -> None:
    code = HOLD.replace("    print(", "    import os, time\n    if not os.fork():\n        time.sleep(60)\n    print(")
    first = hold(tmp_path, code)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_stays_empty_is_removed_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed"), lock_folder(tmp_path / "a"):
        raise RuntimeError("failed")
    with lock_folder(tmp_path / "b"):
        (tmp_path / "b" / "file").touch()
    with lock_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="file: cannot write to this folder"), lock_folder(tmp_path / "file"):
        pass
