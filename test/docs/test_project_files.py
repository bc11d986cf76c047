"""README.md, the changelog, the workflow, the hooks and the templates agree with the code and with each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from reference.modules import subpackages

import harmonifuse_espnet

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "tools" / "Makefile").read_text(encoding="utf-8")


def read_yaml(name: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_readme_begins_with_what_it_is_results_set_up_and_use() -> None:
    headings = re.findall(r"^## (.*)", README, re.MULTILINE)
    assert headings[:3] == ["Results", "Set-up", "Use a trained model"]
    before = README.split("## Run a recipe")[0]
    assert len(before.splitlines()) <= 60
    assert "make -C tools demo" in before and "make -C tools test" in before


def test_the_readme_names_every_subpackage() -> None:
    tree = README.split("## Repository")[1].split("```")[1]
    assert re.findall(r"^  (\w+)/ ", tree, re.MULTILINE) == list(subpackages())


@pytest.mark.parametrize(("name", "column"), [("test_an4 (asr, llm)", "Err"), ("test_crema_d (ser)", "UA")])
def test_the_results_of_the_readme_are_those_of_the_generated_file(name: str, column: str) -> None:
    results = (ROOT / "egs2/an4_crema_d/slm1/RESULTS_long.md").read_text(encoding="utf-8").splitlines()
    (row, *_) = [number for number, line in enumerate(results) if f"{name}|" in line]
    header = next(line for line in reversed(results[:row]) if line.startswith("|dataset|"))
    value = results[row].split("|")[header.split("|").index(column)]
    for text in (README, (ROOT / "docs/results.md").read_text(encoding="utf-8")):
        assert f"{value} % {'WER' if column == 'Err' else column}" in text


def test_the_changelog_has_this_version_on_top() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?([\d.]+)\]? - (\S+)", changelog, re.MULTILINE)
    assert versions[0][0] == harmonifuse_espnet.__version__
    assert read_yaml("CITATION.cff")["version"] == harmonifuse_espnet.__version__


def test_the_changelog_names_every_renamed_option() -> None:
    from harmonifuse_espnet.common.compatibility import RENAMED_OPTIONS

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for option, names in RENAMED_OPTIONS.items():
        for old, new in names.items():
            assert f"`{option}: {old}`: use `{new}`" in changelog


def test_continuous_integration_runs_what_ci_run_does() -> None:
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python-version"] == ["3.10", "3.12"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_hooks_use_the_settings_of_the_linters() -> None:
    hooks = {hook["id"]: hook for hook in read_yaml(".pre-commit-config.yaml")["repos"][0]["hooks"]}
    assert set(hooks) >= {"ruff-format", "ruff-check", "mypy", "shellcheck", "lint-imports"}
    for hook in hooks.values():
        for name in re.findall(r"tools/[\w./]+", hook["entry"]):
            assert (ROOT / name).is_file() and name in MAKEFILE, name


def test_issue_forms_request_the_needed_information() -> None:
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"]
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert any(field.get("validations", {}).get("required") for field in fields)
        assert len({field["id"] for field in fields}) == len(fields)


def test_targets_in_the_templates_exist() -> None:
    for path in [*(ROOT / ".github").rglob("*.yml"), *(ROOT / ".github").glob("*.md"), ROOT / "SECURITY.md"]:
        for target in re.findall(r"make -C tools (\w+)", path.read_text(encoding="utf-8")):
            assert f"\n{target}:" in MAKEFILE, f"{path}: {target}"
