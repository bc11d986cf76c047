"""Generated Markdown: tables, and relative links."""

from __future__ import annotations

from pathlib import Path

from harmonifuse_espnet.evaluation.markdown import link, section


def test_a_section_is_a_heading_and_a_table() -> None:
    assert section("WER", ["a", "b"], [["1", "2"], ["3", "4"]]) == "### WER\n\n|a|b|\n|---|---|\n|1|2|\n|3|4|"


def test_links_are_relative(tmp_path: Path) -> None:
    assert link(tmp_path / "conf" / "a.yaml", tmp_path / "out") == "[../conf/a.yaml](../conf/a.yaml)"
