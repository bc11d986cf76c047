"""Check every relative link and anchor of the project's Markdown files; web addresses are not checked.

Anchors are computed from headings as on GitHub.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md", "egs2/*/slm1/README.md")
TARGETS = (
    re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^\s)>]+)>?(?:\s+\"[^\"]*\")?\s*\)"),  # [text](target "title")
    re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)>?", re.MULTILINE),  # [name]: target
    re.compile(r"<(?:a|img)\s[^>]*?(?:href|src)=\"([^\"]+)\""),
)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def without_code(text: str) -> str:
    """Return Markdown with the contents of code blocks and code spans removed; lines keep their numbers.

    Example:
        >>> without_code("see `[a](b)`\\n~~~\\n[c](d)\\n~~~\\n")
        'see \\n\\n\\n\\n'
    """
    lines, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
            lines.append("")
        elif mark:
            fence = mark[1]
            lines.append("")
        else:
            lines.append(line)
    return re.sub(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "", "\n".join(lines))


def anchors(text: str) -> set[str]:
    """Return the anchors of a file's headings, and its explicit ``id``s.

    Example:
        >>> sorted(anchors("# Read `this`, first\\n## Notes\\n## Notes\\n"))
        ['notes', 'notes-1', 'read-this-first']
    """
    found = set(re.findall(r"<[^>]+\s(?:id|name)=\"([^\"]+)\"", text))
    counts: Counter[str] = Counter()
    fences = without_code(re.sub(r"`(?!``)([^`\n]+)`", r"\1", text))
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", fences, re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.add(slug if not counts[slug] else f"{slug}-{counts[slug]}")
        counts[slug] += 1
    return found


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and target of every link that is not a web address."""
    prose = without_code(text)
    for pattern in TARGETS:
        for match in pattern.finditer(prose):
            if not ADDRESS.match(match[1]):
                yield prose.count("\n", 0, match.start(1)) + 1, match[1]


def fault(path: Path, target: str, root: Path) -> str:
    """Return what is wrong with a link in ``path``, or an empty string."""
    name, _, anchor = unquote(target).partition("#")
    if name.startswith("/"):
        return "absolute path; make it relative to this file"
    linked = (path.parent / name).resolve() if name else path
    if not linked.exists():
        return "no such file or folder"
    if root not in [linked, *linked.parents]:
        return "outside the repository"
    if anchor and linked.suffix == ".md" and anchor not in anchors(linked.read_text(encoding="utf-8")):
        return f"{linked.relative_to(root)} has no such heading"
    return ""


def check(root: Path, patterns: Sequence[str] = FILES) -> list[str]:
    """Return a line for each broken link in the files that the patterns match.

    Raises:
        FileNotFoundError: if a pattern matches no file.
    """
    broken = []
    for pattern in patterns:
        paths = sorted(path for path in root.glob(pattern) if path.is_file())
        if not paths:
            raise FileNotFoundError(f"{root}: no file matches {pattern}; correct FILES in tools/check_links.py")
        for path in paths:
            for line, target in sorted(links(path.read_text(encoding="utf-8"))):
                reason = fault(path, target, root)
                if reason:
                    broken.append(f"{path.relative_to(root)}:{line}: {target}: {reason}")
    return broken


def main(cmd: Sequence[str] | None = None) -> None:
    """Print every broken link; exit with status 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the repository")
    args = parser.parse_args(cmd)
    try:
        broken = check(args.root.resolve())
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    if broken:
        print("\n".join(broken), file=sys.stderr)
        sys.exit(f"error: {len(broken)} broken links")


if __name__ == "__main__":
    main()
