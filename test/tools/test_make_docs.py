"""Generated parts of the documentation: they are up to date, and show what parsers, classes and docstrings have."""

from __future__ import annotations

import argparse
import doctest
from pathlib import Path

import pytest
from make_docs import DOCS, generate, main, outdated
from reference import classes, markdown, modules, options
from reference.badges import badges

from harmonifuse_espnet.train.registry import CLASS_CHOICES


class Base:
    """A base.

    Args:
        width: Of the base.
        rate: Per second, as in
            :class:`a.b.Other`.
    """


class Derived(Base):
    """A class.

    Longer text.

    Args:
        width: Its own.
        low, high: As in :class:`reference_fixture.Limits`.

    Raises:
        ValueError: if not: never.
    """

    def __init__(self, width: int, rate: float = 0.5, low: bool = True, high: str | None = None) -> None: ...


def test_examples_hold() -> None:
    failed, attempted = doctest.testmod(markdown)
    assert attempted > 0 and failed == 0


def test_the_committed_documentation_is_up_to_date() -> None:
    assert [path.name for path in outdated(DOCS)] == []


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A documentation of one page with one section, up to date."""
    text = "before\n<!-- generated: choices connector -->\n<!-- end of generated text -->\nafter\n"
    (tmp_path / "page.md").write_text(text)
    main(["--docs", str(tmp_path)])
    return tmp_path


def test_a_section_is_written_between_its_markers(docs: Path) -> None:
    lines = (docs / "page.md").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "| `stacking` (default) | `StackingConnector` |" in "\n".join(lines)
    main(["--check", "--docs", str(docs)])


@pytest.mark.parametrize("name", ["page.md", "images/badge_python.svg"])
def test_the_check_names_what_is_out_of_date(docs: Path, name: str) -> None:
    changed = (docs / name).read_text().replace("stacking", "stack").replace("3.10", "3.9")
    (docs / name).write_text(changed)
    with pytest.raises(SystemExit, match=f"out of date: {name}; to update them: python tools/make_docs.py"):
        main(["--check", "--docs", str(docs)])
    assert (docs / name).read_text() == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: commands -->\n", "needs a line '<!-- end of generated text -->' after it"),
        ("<!-- end of generated text -->\n", "needs a line"),
        ("<!-- generated: a -->\n<!-- generated: b -->\n<!-- end of generated text -->\n", "before the next one"),
        ("<!-- generated: nothing -->\n<!-- end of generated text -->\n", "unknown generated section 'nothing'"),
        (
            "<!-- generated: arguments x -->\n<!-- end of generated text -->\n",
            "section 'arguments x'; expected one of: ",
        ),
    ],
)
def test_a_wrong_marker_is_named_with_its_file(docs: Path, text: str, message: str) -> None:
    (docs / "page.md").write_text(text)
    with pytest.raises(SystemExit, match=f"page.md: .*{message}"):
        main(["--docs", str(docs)])


def test_arguments_come_from_the_class_and_its_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limits:
        """L.

        Args:
            low: The lowest.
            high: The highest,
                in hertz.
        """

    monkeypatch.setattr(classes, "load", {"reference_fixture.Limits": Limits}.__getitem__)
    docs = {name: markdown.inline(text) for name, text in classes.argument_docs(Derived).items()}
    assert docs == {
        "width": "Its own.",
        "low": "The lowest.",
        "high": "The highest, in hertz.",
        "rate": "Per second, as in `Other`.",
    }


def test_every_option_of_the_network_has_its_classes_and_arguments() -> None:
    for choices in CLASS_CHOICES:
        section = generate(f"choices {choices.name}")
        for key, chosen in choices.classes.items():
            if chosen is not None:
                assert f"| `{key}`" in section and f"`{chosen.__name__}`" in section
    assert "| `temperature` | `1.0` |" in generate("choices fusion")
    assert "`num_tasks`" not in generate("choices fusion")
    assert "| `word_dropout` | `0.0` |" in generate("arguments model") and "`tasks`" not in generate("arguments model")
    assert "decibels" in generate("arguments preprocessor")  # from Augmentation


def test_every_command_and_its_options_are_listed() -> None:
    section = generate("commands")
    commands = {path.stem for path in options.BIN.glob("[a-z]*.py")}
    assert {line.removeprefix("### ") for line in section.splitlines() if line.startswith("### ")} == commands
    for option in ("--converted_dir", "--emotions", "--beam_size", "--steps_measured", "--upload"):
        assert (f"`{option}`" in section) == (option != "--upload")


def test_options_of_run_sh_have_groups_defaults_and_texts() -> None:
    section = generate("run options")
    assert section.count("\n| option | default |") == section.count("### ") >= 5
    assert "| `--stage` | `1` | first stage to run |" in section
    assert all(len(line.split(" | ")) >= 3 for line in section.splitlines() if line.startswith("| `"))


def test_defaults_are_in_their_own_column() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=3, help="a size (default: %(default)s)")
    parser.add_argument("--kind", choices=("a", "b"), help="a | b")
    parser.add_argument("--names", nargs="+", choices=("x", "y"), default=["x"], help="names (default: x)")
    parser.add_argument("--rate", type=float, default=3.0, help="a rate [3]")
    parser.add_argument("--old", help=argparse.SUPPRESS)
    table = options._option_table(parser._actions).splitlines()
    assert table[2:] == [
        "| `--size` | `3` | a size |",
        "| `--kind` |  | a \\| b |",
        "| `--names` | `[x]` | names; one or more of x, y |",
        "| `--rate` | `3.0` | a rate |",
    ]


def test_every_module_is_listed_in_its_subpackage() -> None:
    section = modules.modules_section()
    for name in modules.subpackages():
        part = section.split(f"### {name}: ")[1].split("### ")[0]
        names = {str(path.relative_to(modules.PACKAGE / name)) for path in (modules.PACKAGE / name).rglob("[a-z]*.py")}
        assert {line.split("`")[1] for line in part.splitlines() if line.startswith("| `")} == names
    folders = {path.parent.name for path in modules.PACKAGE.glob("*/__init__.py")}
    assert set(modules.subpackages()) == folders


def test_badges_show_the_values_of_setup_py() -> None:
    assert "Apache-2.0" in badges()["badge_licence.svg"] and "3.10+" in badges()["badge_python.svg"]
    assert all("http" not in svg.replace("http://www.w3.org/2000/svg", "") for svg in badges().values())
