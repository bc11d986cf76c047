"""Write the generated files: marked sections of docs/*.md, the README's badges, and the list of training options.

A section is the text between ``<!-- generated: NAME -->`` and ``<!-- end of generated text -->``. ``--check`` writes
nothing and fails if a file is out of date.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from reference.badges import badges
from reference.classes import CLASSES, choices_section, class_section
from reference.markdown import fill_sections
from reference.modules import modules_section
from reference.options import commands_section, decoding_section, run_section, training_section

from harmonifuse_espnet.train.options import DESCRIPTION, describe

DOCS = Path(__file__).resolve().parents[1] / "docs"
SECTIONS = {
    "run options": run_section,
    "training options": training_section,
    "decoding options": decoding_section,
    "commands": commands_section,
    "modules": modules_section,
}


def generate(name: str) -> str:
    """Return a section: one of ``SECTIONS``, ``choices OPTION`` or ``arguments OPTION``.

    Raises:
        ValueError: if there is no such section.
    """
    kind, _, option = name.partition(" ")
    if name in SECTIONS:
        return SECTIONS[name]()
    if kind == "choices":
        return choices_section(option)
    if kind == "arguments" and option in CLASSES:
        return class_section(option)
    known = [*SECTIONS, "choices OPTION", *(f"arguments {option}" for option in CLASSES)]
    raise ValueError(f"unknown generated section '{name}'; expected one of: {', '.join(known)}")


def training_options() -> str:
    """Return the content of ``train/options.json``, by which training checks its options before it imports PyTorch."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    description = describe(HarmoniFuseTask.espnet_parser())
    rows = ",\n".join(f"    {json.dumps(option)}" for option in description["options"])
    return f'{{\n  "made_from": {json.dumps(description["made_from"])},\n  "options": [\n{rows}\n  ]\n}}\n'


def outdated(docs: Path) -> dict[Path, str]:
    """Return the files that are out of date, with the content that they should have.

    Raises:
        ValueError: if a marker has no partner or an unknown name; the message names the file.
    """
    wanted = {docs / "images" / name: content for name, content in badges().items()}
    wanted[DESCRIPTION] = training_options()
    for path in sorted(docs.rglob("*.md")):
        try:
            wanted[path] = fill_sections(path.read_text(encoding="utf-8"), generate)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return {
        path: content
        for path, content in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    }


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the files that are out of date, or only report them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the documentation (default: docs/)")
    args = parser.parse_args(cmd)
    try:
        changed = outdated(args.docs)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if args.check and changed:
        names = ", ".join(os.path.relpath(path, args.docs) for path in changed)
        sys.exit(f"error: {args.docs}: out of date: {names}; to update them: python tools/make_docs.py")
    for path, content in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
