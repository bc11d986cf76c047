"""The environment in RESULTS.md: commit, versions and hardware."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harmonifuse_espnet.evaluation.environment import git_commit, hardware, installed_version

RESULTS = (
    "RESULTS.md",
    *(f"recipe/RESULTS{name}.md" for name in ("", "_dev", "_long")),
    *("recipe/images/a.png", "recipe/dev/images/b.png"),
)


def test_uncommitted_changes_are_reported_except_those_of_generated_results(tmp_path: Path) -> None:
    def git(*command: str) -> str:
        user = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *user, *command], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert git_commit(tmp_path)[0] == "none (not a git commit)"
    git("init", "-q")
    for name in ("code.py", *RESULTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD").strip()
    (tmp_path / "untracked.py").write_text("new")
    for name in RESULTS:
        (tmp_path / name).write_text("two")
    assert git_commit(tmp_path / "recipe")[0] == commit
    (tmp_path / "code.py").write_text("two")
    assert git_commit(tmp_path / "recipe")[0] == f"{commit} with uncommitted changes"


def test_versions_and_hardware() -> None:
    assert installed_version("pytest") == f"pytest {pytest.__version__}"
    assert installed_version("no-such-package") == "no-such-package (not installed)"
    assert "cores; GPU `" in hardware()
