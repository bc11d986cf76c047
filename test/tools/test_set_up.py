"""Set-up: the real script, with a base Python that only pretends to create environments and to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_PYTHON = """#!/bin/bash
# A Python whose `-m venv` and `-m pip` only record their calls; `pip install` fails if FAIL is set.
case "$*" in
    "-m venv --clear "*)
        echo venv >>"$RECORD"
        rm -rf "$4"; mkdir -p "$4/bin"; touch "$4/pyvenv.cfg"; cp "$0" "$4/bin/python" ;;
    "-m pip install "*)
        echo "pip ${*: -2}" >>"$RECORD"
        [[ -z ${FAIL:-} ]] ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
FULL = ["venv", "pip constraints.txt setuptools", "pip -e ..[dev,demo]"]


class Clone:
    """A clone with only the files that set-up reads, and an environment folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.venv = folder, folder / "a clone", folder / "an environment"
        (self.root / "tools").mkdir(parents=True)
        for name in ("set_up.sh", "env_key.py", "constraints.txt", "Makefile", "check_install.py"):
            shutil.copy(ROOT / "tools" / name, self.root / "tools" / name)
        shutil.copy(ROOT / "setup.py", self.root)
        self.python = folder / "base python"
        self.python.write_text(BASE_PYTHON, encoding="utf-8")
        self.python.chmod(0o755)
        self.record = folder / "record"

    def run(self, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command; standard error is part of standard output."""
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "VENV", "BASE_PYTHON")}
        environment |= {"RECORD": str(self.record), "REAL_PYTHON": sys.executable} | variables
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, env=environment, text=True, timeout=60, **out)  # type: ignore[call-overload]

    def set_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call set_up.sh."""
        script = str(self.root / "tools" / "set_up.sh")
        return self.run(["bash", script, str(self.venv), str(self.python)], **variables)

    def steps(self) -> list[str]:
        """The steps recorded since the last call of this method."""
        steps = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return steps


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone at a path with spaces and a quote."""
    return Clone(tmp_path / "it's here")


def test_the_environment_is_created_once(clone: Clone) -> None:
    first = clone.set_up()
    assert first.returncode == 0 and clone.steps() == FULL, first.stdout
    second = clone.set_up()
    assert (second.returncode, second.stdout, clone.steps()) == (0, "", [])


def test_an_interrupted_set_up_is_repeated(clone: Clone) -> None:
    assert clone.set_up(FAIL="1").returncode != 0
    assert clone.steps() == FULL[:2]
    assert clone.set_up().returncode == 0
    assert clone.steps() == FULL


@pytest.mark.parametrize("file", ["setup.py", "tools/constraints.txt"])
def test_other_requirements_create_it_again(clone: Clone, file: str) -> None:
    clone.set_up()
    clone.steps()
    with (clone.root / file).open("a", encoding="utf-8") as stream:
        stream.write("# changed\n")
    clone.set_up()
    assert clone.steps() == FULL


def test_an_environment_without_python_is_created_again(clone: Clone) -> None:
    clone.set_up()
    clone.steps()
    (clone.venv / "bin" / "python").unlink()
    clone.set_up()
    assert clone.steps() == FULL


def test_another_clone_with_the_same_requirements_is_only_installed(clone: Clone) -> None:
    clone.set_up()
    clone.steps()
    clone.root = clone.root.rename(clone.folder / "another clone")
    assert clone.set_up().returncode == 0
    assert clone.steps() == ["pip -e .."]
    assert clone.set_up().stdout == ""


def test_a_folder_that_is_not_an_environment_is_never_cleared(clone: Clone) -> None:
    clone.venv.mkdir()
    (clone.venv / "thesis.tex").touch()
    done = clone.set_up()
    assert done.returncode == 1 and "is neither empty nor a virtual environment" in done.stdout
    assert (clone.venv / "thesis.tex").exists() and clone.steps() == []


def test_an_unknown_base_python_is_named(clone: Clone) -> None:
    clone.python = Path("/no/python")
    done = clone.set_up()
    assert done.returncode == 1 and "no Python called '/no/python'; specify one" in done.stdout


def test_an_old_python_is_reported() -> None:
    code = "import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", code, str(ROOT / "tools" / "env_key.py")]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert "harmonifuse_espnet needs Python 3.10 or newer" in done.stderr and "BASE_PYTHON=" in done.stderr


def test_make_sets_up_in_the_named_folder(clone: Clone) -> None:
    make = ["make", "-s", "-C", str(clone.root / "tools"), f"BASE_PYTHON={clone.python}"]
    assert clone.run([*make, "venv", f"VENV={clone.venv}"]).returncode == 0
    assert clone.steps() == FULL and (clone.venv / "harmonifuse.done").is_file()
    assert clone.run([*make, "venv"], HARMONIFUSE_VENV=str(clone.venv)).returncode == 0
    assert clone.steps() == []
    assert clone.run([*make, "venv"]).returncode == 0
    assert clone.steps() == FULL and (clone.root / "tools" / "venv" / "harmonifuse.done").is_file()


def test_make_only_checks_an_existing_environment(clone: Clone) -> None:
    done = clone.run(["make", "-s", "-C", str(clone.root / "tools"), "venv", f"PYTHON={sys.executable}"])
    assert "espnet             202511" in done.stdout
    assert not (clone.root / "tools" / "venv").exists()


def test_ci_keeps_its_environment_by_key_and_runs_the_test_target(clone: Clone, tmp_path: Path) -> None:
    (clone.root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", clone.root / ".ci" / "run")
    (tmp_path / "make").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$RECORD"\n', encoding="utf-8")
    (tmp_path / "make").chmod(0o755)
    cache = clone.folder / "my cache"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = clone.run(
        [str(clone.root / ".ci" / "run")], HARMONIFUSE_CACHE=str(cache), BASE_PYTHON=sys.executable, PATH=path
    )
    assert done.returncode == 0, done.stdout
    key = subprocess.check_output([sys.executable, str(clone.root / "tools" / "env_key.py")], text=True).strip()
    assert clone.steps() == ["-C", "tools", "test", f"VENV={cache}/ci-{key}", f"BASE_PYTHON={sys.executable}"]
