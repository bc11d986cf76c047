"""Tables, inline text and marked sections of Markdown files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SECTION = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end of generated text -->)", re.DOTALL)
BEGIN, END = "<!-- generated: ", "<!-- end of generated text -->"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with one line for each row.

    Example:
        >>> print(table(["name", ""], [["`a`", "x | y"]]))
        | name |  |
        |---|---|
        | `a` | x \\| y |
    """
    lines = [header, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(header), *written[1:]])


def inline(text: str) -> str:
    """Turn reStructuredText of a docstring, or plain help text, into one line of Markdown.

    Example:
        >>> inline("``exp/<tag>``, see :class:`a.b.Name` or\\n  <folder>")
        '`exp/<tag>`, see `Name` or &lt;folder>'
    """
    text = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    parts = " ".join(text.split()).split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def code(value: object) -> str:
    """Return a value as YAML writes it, in backticks; nothing for None and empty text."""
    if value is None or value == "" or value is NotImplemented:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def fill_sections(text: str, generate: Callable[[str], str]) -> str:
    """Replace the text between each pair of markers by ``generate(name)``, with the name in the first marker.

    Raises:
        ValueError: if a marker has no partner.
    """
    if not text.count(BEGIN) == text.count(END) == len(SECTION.findall(text)):
        raise ValueError(f"each '{BEGIN}NAME -->' needs a line '{END}' after it, before the next one")
    return SECTION.sub(lambda match: f"{match[1]}\n{generate(match['name'])}\n\n{match[3]}", text)
