"""Environment of an experiment: date, versions, git commit and hardware."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harmonifuse_espnet import __version__

# Written by these commands: a change of these files is not a change of the code.
GENERATED = (":(top,exclude,glob)**/RESULTS*.md", ":(top,exclude,glob)**/images/*.png")


def environment(date: datetime) -> str:
    """Return the section of RESULTS.md with date, versions, git commit and hardware."""
    commit, commit_date = git_commit(Path(__file__).parent)
    lines = [
        f"- date: `{date.astimezone():%a %b %d %H:%M:%S %Z %Y}`",
        f"- python version: `{platform.python_version()}`",
        *(f"- {name} version: `{installed(name)}`" for name in ("espnet", "torch", "transformers")),
        f"- harmonifuse_espnet version: `{__version__}`",
        f"- Git hash: `{commit}`",
        f"  - Commit date: `{commit_date}`",
        f"- hardware: {hardware()}",
    ]
    return "\n".join(["## Environments", *lines])


def git_commit(folder: Path) -> tuple[str, str]:
    """Return the commit and the commit date of the repository of ``folder``.

    Uncommitted changes are mentioned. Untracked files and generated results (``RESULTS*.md``, ``images/*.png``) are not
    changes.
    """

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True).stdout

    try:
        commit, commit_date = git("log", "-1", "--format=%H%n%cd").splitlines()
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *GENERATED).strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "none (not a git commit)", "none"
    return commit + (" with uncommitted changes" if changes else ""), commit_date


def installed(package: str) -> str:
    """Return the name and the installed version of a package, without importing it."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def hardware() -> str:
    """Return the model of the CPU, the number of cores available to this process, and the name of the GPU."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU `{(models or [platform.machine()])[0]}`, {cores} cores; GPU `{_gpus() or 'none'}`"


def _gpus() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ", ".join(names.split("\n")).strip(", ")
