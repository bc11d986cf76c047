"""The linters hold the layers of the package: imports go downwards only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the check of ``make -C tools lint`` on the package in ``root``."""
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--config", ROOT / "tools" / "importlinter.ini"]
    return subprocess.run(
        [*map(str, command), "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )


def test_the_package_has_no_upward_import() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "1 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("common.files", "data.tasks"),
        ("data.tasks", "model.gate"),
        ("corpora.an4", "model.gate"),
        ("model.gate", "train.parameters"),
        ("train.parameters", "inference.generation"),
        ("inference.extractors", "evaluation.metrics"),
        ("evaluation.metrics", "ablation.spec"),
        ("ablation.spec", "bin.train"),
    ],
)
def test_an_upward_import_fails(lower: str, upper: str, tmp_path: Path) -> None:
    """Within a function as well, where Python would not notice the circle."""
    shutil.copytree(ROOT / "harmonifuse_espnet", tmp_path / "harmonifuse_espnet")
    module = tmp_path / "harmonifuse_espnet" / f"{lower.replace('.', '/')}.py"
    with module.open("a") as file:
        file.write(f"\n\ndef later() -> None:\n    import harmonifuse_espnet.{upper}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert f"harmonifuse_espnet.{lower} -> harmonifuse_espnet.{upper}" in " ".join(result.stdout.split())


def test_every_module_is_in_a_room(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "harmonifuse_espnet", tmp_path / "harmonifuse_espnet")
    (tmp_path / "harmonifuse_espnet" / "utils.py").write_text('"""Anything."""\n')
    result = lint_imports(tmp_path)
    assert result.returncode == 1 and "utils" in result.stdout, result.stdout
