"""The README's badges, as small SVG files that need no network."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHARACTER, MARGIN = 6.6, 6  # pixels
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {value}">
<title>{label}: {value}</title>
<rect width="{width}" height="20" rx="3" fill="#555"/>
<path d="M{left} 0h{right_less}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{margin}" y="14" textLength="{label_length}">{label}</text>
<text x="{value_at}" y="14" textLength="{value_length}">{value}</text>
</g>
</svg>
"""


def badges() -> dict[str, str]:
    """Return file name -> SVG; licence, Python and ESPnet are read from setup.py."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    oldest = _find(r'python_requires=">=(.+?)"', setup)
    values = {
        "licence": (_find(r'license="(.+?)"', setup), "#2a7ab0"),
        "python": (f"{oldest}+", "#2a7ab0"),
        "espnet": (_find(r'"espnet==(.+?)"', setup), "#2a7ab0"),
        "tests": ("make -C tools test", "#3c8a3c"),
    }
    return {f"badge_{label}.svg": _badge(label, value, colour) for label, (value, colour) in values.items()}


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(
            f"setup.py: no match for {pattern}, which a badge needs; correct the pattern in tools/reference/badges.py"
        )
    return found[1]


def _badge(label: str, value: str, colour: str) -> str:
    label_length, value_length = (round(CHARACTER * len(text)) for text in (label, value))
    left, right = label_length + 2 * MARGIN, value_length + 2 * MARGIN
    return SVG.format(
        label=label, value=value, colour=colour, margin=MARGIN, width=left + right, left=left, right_less=right - 3,
        label_length=label_length, value_length=value_length, value_at=left + MARGIN,
    )  # fmt: skip
