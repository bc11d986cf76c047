"""Files are written atomically and leave nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harmonifuse_espnet.common import files
from harmonifuse_espnet.common.errors import AccessError
from harmonifuse_espnet.common.files import atomic_path, remove_orphans, temporary_path, write_files


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())


def orphan(folder: Path, pid: int, host: str = files._HOST) -> Path:
    path = folder / f".tokens.txt.{host}-{pid}.tmp"
    path.touch()
    return path


def test_a_killed_process_leaves_a_temporary_file_that_the_next_removes(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom harmonifuse_espnet.common.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'a.txt') as path:\n    path.write_text('half'); os._exit(9)\n"
    )
    (tmp_path / "a.txt").write_text("before")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "a.txt").read_text() == "before"
    write_files(tmp_path, {"b.txt": "b"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_files_of_living_processes_and_of_other_machines_are_kept(tmp_path: Path) -> None:
    mine, other = orphan(tmp_path, os.getppid()), orphan(tmp_path, 1, host="another.machine")
    old = orphan(tmp_path, 2, host="another.machine")
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    hidden = tmp_path / ".gitignore"
    hidden.touch()
    dead = orphan(tmp_path, dead_process())
    remove_orphans(tmp_path)
    assert {path for path in (mine, other, hidden, old, dead) if path.exists()} == {mine, other, hidden}


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(os.readlink(f"/proc/self/fd/{file}")), sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append(str(paths[1])), replace(*paths))[1])
    with atomic_path(tmp_path / "a") as path:
        path.write_text("a")
    assert events == [str(temporary_path(tmp_path / "a")), str(tmp_path / "a"), str(tmp_path)]
    events.clear()
    write_files(tmp_path, {"b": "b", "c": b"c"})
    first = [str(temporary_path(tmp_path / name)) for name in "bc"]
    assert events == [*first, str(tmp_path / "b"), str(tmp_path / "c"), str(tmp_path)]


def test_an_error_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with pytest.raises(RuntimeError, match="stopped"), atomic_path(tmp_path / "a") as path:
        path.write_text("half")
        raise RuntimeError("stopped")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "before")]


@pytest.mark.bad_input
@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "free space"), (errno.EROFS, "check its permissions")])
def test_the_message_names_the_folder_and_the_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    with pytest.raises(AccessError) as error, atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert str(error.value) == (
        f"{tmp_path}: cannot write to this folder ({os.strerror(number)}); {remedy} or choose another one, then run "
        "the command again; completed work is kept"
    )
