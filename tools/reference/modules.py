"""The subpackages and their modules, from the docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from reference.markdown import inline, table

PACKAGE = Path(__file__).resolve().parents[2] / "harmonifuse_espnet"


def subpackages() -> dict[str, str]:
    """Return the description of each subpackage, from the list in the docstring of the package."""
    return dict(re.findall(r"^    (\w+) {2,}(\S.*)$", _docstring(PACKAGE / "__init__.py"), re.MULTILINE))


def modules_section() -> str:
    """Return a table of modules for each subpackage, in the order of that list."""
    return "\n\n".join(f"### {name}: {text}\n\n{_modules(PACKAGE / name)}" for name, text in subpackages().items())


def _modules(folder: Path) -> str:
    paths = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
    rows = [[f"`{path.relative_to(folder)}`", inline(_docstring(path).split("\n\n")[0])] for path in paths]
    return table(["module", "description"], rows)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
