"""The requirements of setup.py, the pinned versions, and the check of an installation."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harmonifuse_espnet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that setup.py passes to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


@pytest.fixture
def check_install() -> dict[str, Any]:
    """The names defined in tools/check_install.py."""
    return runpy.run_path(str(ROOT / "tools" / "check_install.py"))


def pins() -> dict[str, str]:
    """Package -> pinned version."""
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in requirements}


def test_the_version_is_the_packages(package: dict[str, Any]) -> None:
    assert package["version"] == harmonifuse_espnet.__version__


def test_every_command_has_a_console_name(package: dict[str, Any]) -> None:
    scripts = package["entry_points"]["console_scripts"]
    assert "harmonifuse-prepare-data = harmonifuse_espnet.bin.prepare_data:main" in scripts
    for script in scripts:
        module = ROOT / (script.split(" = ")[1].split(":")[0].replace(".", "/") + ".py")
        assert "\ndef main(" in module.read_text(encoding="utf-8"), f"{module} has no main"


def test_every_requirement_is_pinned_within_its_range(package: dict[str, Any]) -> None:
    pinned = pins()
    texts = package["install_requires"] + [text for extra in package["extras_require"].values() for text in extra]
    for requirement in map(Requirement, texts):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_check_reads_every_requirement_of_setup_py(package: dict[str, Any], check_install: dict[str, Any]) -> None:
    read = list(check_install["requirements"](ROOT / "setup.py"))
    extras = package["extras_require"]
    assert sorted(read) == sorted({*package["install_requires"], *extras["demo"], *extras["dev"]})


@pytest.mark.parametrize(
    ("requirement", "met", "line"),
    [
        ("pytest>=1", True, f"pytest             {pytest.__version__}"),
        ("pytest<1", False, f"{pytest.__version__} IS OUT OF RANGE (needs <1)"),
        ("no-such-package>=2", False, "no-such-package    MISSING (needs >=2)"),
    ],
)
def test_the_check_describes_each_requirement(
    check_install: dict[str, Any], requirement: str, met: bool, line: str
) -> None:
    is_met, printed = check_install["check"](requirement)
    assert is_met is met and line in printed


def test_the_check_fails_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    script = tmp_path / "tools" / "check_install.py"
    script.write_bytes((ROOT / "tools" / "check_install.py").read_bytes())
    (tmp_path / "setup.py").write_text('INSTALL = ["pytest>=1", "no-such-package"]\n', encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "error: missing or out of range: no-such-package" in done.stderr
    assert f'-m pip install -c "{tmp_path}/tools/constraints.txt" -e "{tmp_path}[dev,demo]"' in done.stderr
    assert "GPU  " in done.stdout and "ffmpeg  " in done.stdout


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "tools" / "Makefile").read_text(encoding="utf-8")
    targets = makefile.split(".PHONY: ")[1].splitlines()[0].split()
    done = subprocess.run(["make", "-s", "-C", str(ROOT / "tools"), "help"], text=True, capture_output=True, timeout=60)
    listed = [line.split(":")[0].strip() for line in done.stdout.split("Options:")[0].splitlines()]
    assert sorted(listed) == sorted(targets)
    assert {"demo", "test", "check", "venv", "lint"} <= set(targets)
