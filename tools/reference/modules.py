"""The rooms of the package and the modules of each, from their docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from reference.markdown import inline, table

PACKAGE = Path(__file__).resolve().parents[2] / "harmonifuse_espnet"


def rooms() -> dict[str, str]:
    """Return each room with its clause, from the list in the package's docstring."""
    return dict(re.findall(r"^    (\w+) {2,}(\S.*)$", _docstring(PACKAGE / "__init__.py"), re.MULTILINE))


def modules_section() -> str:
    """Return a table of modules for each room, in the package's order."""
    return "\n\n".join(f"### {name}: {clause}\n\n{_modules(PACKAGE / name)}" for name, clause in rooms().items())


def _modules(room: Path) -> str:
    paths = sorted(path for path in room.rglob("*.py") if path.name != "__init__.py")
    rows = [[f"`{path.relative_to(room)}`", inline(_docstring(path).split("\n\n")[0])] for path in paths]
    return table(["module", ""], rows)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
