"""Print the installed versions, one per line; exit with an error if a requirement is missing or out of range.

The requirements are read from setup.py.
"""

from __future__ import annotations

import ast
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
LISTS = ("INSTALL", "DEMO", "DEV")


def requirements(setup_py: Path) -> Iterator[str]:
    """Return the requirement strings in setup.py's lists, without running it."""
    for node in ast.parse(setup_py.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and ast.unparse(node.targets[0]) in LISTS:
            yield from (item.value for item in node.value.elts if isinstance(item, ast.Constant))


def check(requirement_text: str) -> tuple[bool, str]:
    """Return whether a requirement is met, and a line that describes it."""
    from packaging.requirements import Requirement

    requirement = Requirement(requirement_text)
    needs = str(requirement.specifier) or "any version"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False, f"{requirement.name:<18} MISSING (needs {needs})"
    if not requirement.specifier.contains(version, prereleases=True):
        return False, f"{requirement.name:<18} {version} IS OUT OF RANGE (needs {needs})"
    return True, f"{requirement.name:<18} {version}"


def gpu() -> str:
    """Return the names of the GPUs, or why there are none."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"unknown: torch cannot be imported ({error})"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "none: everything runs on the CPU"


def main() -> None:
    """Print the report; if a requirement is not met, exit with status 1 and the command that installs it."""
    lines = [(sys.version_info >= (3, 10), f"{'Python':<18} {platform.python_version()} ({sys.executable})")]
    try:
        lines += [check(text) for text in requirements(TOOLS.parent / "setup.py")]
    except ImportError:
        lines.append((False, f"{'packaging':<18} MISSING"))
    lines.append((True, f"{'GPU':<18} {gpu()}"))
    ffmpeg = shutil.which("ffmpeg") or "none: convert audio that is not WAV, FLAC, OGG, MP3 or SPHERE by other means"
    lines.append((True, f"{'ffmpeg':<18} {ffmpeg}"))
    print("\n".join(line for _, line in lines))
    wrong = [line.split()[0] for good, line in lines if not good]
    if wrong:
        remedy = f'"{sys.executable}" -m pip install -c "{TOOLS}/constraints.txt" -e "{TOOLS.parent}[dev,demo]"'
        sys.exit(f"error: missing or out of range: {', '.join(wrong)}; install them (with Python >= 3.10): {remedy}")


if __name__ == "__main__":
    main()
