"""Links of Markdown files: what is found broken, what is not a link, and that this repository has no broken one."""

from __future__ import annotations

import doctest
from pathlib import Path

import check_links
import pytest
from check_links import FILES, ROOT, anchors, check, links, main


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with every kind of file that is checked, without links."""
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs/a/page.md",
        "egs2/x/slm1/README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Title\n")
    return tmp_path.resolve()


def test_examples_hold() -> None:
    failed, attempted = doctest.testmod(check_links)
    assert attempted > 0 and failed == 0


def test_this_repository_has_no_broken_link() -> None:
    assert check(ROOT) == []
    assert {"README.md", "docs/**/*.md", "egs2/*/slm1/README.md"} <= set(FILES)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("see [the page](docs/none.md)", "README.md:2: docs/none.md: no such file or folder"),
        ("![figure](docs/a.png)", "README.md:2: docs/a.png: no such file or folder"),
        ("[![badge](docs/b.svg)](LICENSE)", "README.md:2: LICENSE: no such file or folder"),
        ("[over two\nlines](docs/none.md)", "README.md:3: docs/none.md: no such file or folder"),
        ('<img src="docs/a.png">', "README.md:2: docs/a.png: no such file or folder"),
        ("[page]: docs/none.md", "README.md:2: docs/none.md: no such file or folder"),
        ("[page](docs/a/page.md#none)", "README.md:2: docs/a/page.md#none: docs/a/page.md has no such heading"),
        ("[here](#none)", "README.md:2: #none: README.md has no such heading"),
        ("[root](/docs/a/page.md)", "README.md:2: /docs/a/page.md: absolute path; make it relative"),
        ("[out](../)", "README.md:2: ../: outside the repository"),
    ],
)
def test_a_broken_link_is_named_with_its_line(repository: Path, text: str, broken: str) -> None:
    (repository / "README.md").write_text(f"# Title\n{text}\n")
    assert any(line.startswith(broken) for line in check(repository))


@pytest.mark.parametrize(
    "text",
    [
        "[page](docs/a/page.md), [its heading](docs/a/page.md#title), [folder](docs/a), [here](#title)",
        '[page](docs/a/page.md "with a title") and [angle](<docs/a/page.md>)',
        "[web](https://example.org/none.md#none), [mail](mailto:a@example.org)",
        "`[code](none.md)` and\n```md\n[block](none.md)\n```\n",
        "an item of a list, `row[0](x)`, and [brackets] (apart)",
    ],
)
def test_valid_links_and_other_text_are_not_reported(repository: Path, text: str) -> None:
    (repository / "README.md").write_text(f"# Title\n{text}\n")
    assert check(repository) == []


def test_links_are_relative_to_their_file(repository: Path) -> None:
    (repository / "docs/a/page.md").write_text("[up](../../README.md) [wrong](README.md)\n")
    assert check(repository) == ["docs/a/page.md:1: README.md: no such file or folder"]


def test_anchors_are_githubs() -> None:
    headings = "# A `code` & (more): it's\n## Twice\n## Twice\n```\n# no heading\n```\n## [Link](a.md) end\n"
    assert anchors(headings) == {"a-code--more-its", "twice", "twice-1", "link-end"}


def test_line_numbers_count_code_blocks() -> None:
    assert list(links("```\ncode\n```\n[a](b.md)\n")) == [(4, "b.md")]


def test_the_command_fails_with_every_broken_link(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--root", str(repository)])
    (repository / "SECURITY.md").write_text("[a](b.md)\n[c](d.md)\n")
    with pytest.raises(SystemExit, match="error: 2 broken links"):
        main(["--root", str(repository)])
    assert capsys.readouterr().err.splitlines() == [
        "SECURITY.md:1: b.md: no such file or folder",
        "SECURITY.md:2: d.md: no such file or folder",
    ]


def test_a_missing_kind_of_file_is_an_error(repository: Path) -> None:
    (repository / "SECURITY.md").unlink()
    with pytest.raises(SystemExit, match=r"no file matches SECURITY\.md; correct FILES"):
        main(["--root", str(repository)])
