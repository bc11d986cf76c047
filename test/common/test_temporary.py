"""Temporary names: those of processes that have ended are removed, others are kept."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from harmonifuse_espnet.common.temporary import remove, remove_orphans, temporary_path


def test_temporary_files_and_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host, pid = socket.gethostname().replace(".", "-"), ended.stdout.strip()
    own = temporary_path(tmp_path / "model.zip")
    assert own == tmp_path / f".model.zip.{host}.{os.getpid()}"
    kept = [own.name, f".model.zip.another-host.{pid}", ".model.zip.notes", f".other.zip.{host}.{pid}", "model.zip"]
    for name in [*kept, f".model.zip.{host}.{pid}"]:
        (tmp_path / name).write_text("")
    remove_orphans(tmp_path / "model.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    (tmp_path / f".abc.{host}.{pid}").mkdir()
    (tmp_path / f".abc.{host}.{pid}" / "file").write_text("")
    remove_orphans(tmp_path / "*")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept[:3], "model.zip"])


def test_removing_what_is_not_there_is_no_error_and_a_link_s_target_is_kept(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists() and not (tmp_path / "link").exists()
