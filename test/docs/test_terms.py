"""The project's words: phrases for which the field has a term of its own do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("harmonifuse_espnet", "egs2", "docs", "tools", "test", ".github")
SUFFIXES = {".py", ".sh", ".md", ".yaml", ".yml"}
LEFT_OUT = re.compile(  # generated files, and prompts for a language model
    r"(^|/)(RESULTS[^/]*\.md|tasks[^/]*\.yaml|dump|exp|corpus|downloads|images|venv|slm1/data)(/|$)"
)
TERMS = {  # phrase -> term of the field
    r"\b[Hh]eard\b|\b[Hh]ears?\b|\bhearing\b|[Pp]erceiv|\bPerception\b": "encode, encoder output",
    r"\basked\b(?! for)": "prompt, task",
    r"[Ww]hose turn\b|\btakes? turns\b": "task schedule",
    r"\breckon|\bforet[eo]l[dl]": "estimate",
    r"\bby heart\b": "over-fitting",
    r"\b[Aa]new\b": "again, new",
    r"\b(goes|go|gone|going|went) on (with|where|from)\b": "resume, continue",
    r"\bwho learns\b|\bundisturbed\b|\brightly\b": "parameter groups, without gradients, accuracy",
    r"LoopGuard|OwnLimits": "repetition limit, maximum length",
    r"\b(is|are) there twice\b": "duplicate",
    r"\blacking\b": "missing",
    r"\bword times\b|when each word was said": "word boundaries, forced alignment",
}


def sources() -> list[Path]:
    """Return the texts of the project, without what its commands generate."""
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "setup.py")]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    return [path for path in files if not LEFT_OUT.search(path.relative_to(ROOT).as_posix()) and path != Path(__file__)]


@pytest.mark.parametrize(("phrase", "term"), list(TERMS.items()), ids=list(TERMS.values()))
def test_the_field_s_terms_are_used(phrase: str, term: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(phrase, line)
    ]
    assert not found, f"say {term!r}:\n" + "\n".join(found)


def test_the_project_s_texts_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in sources()}
    assert {"README.md", "harmonifuse_espnet/model/harmonifuse.py", "egs2/TEMPLATE/slm1/slm.sh"} <= names
    assert "egs2/an4_crema_d/slm1/RESULTS.md" not in names
