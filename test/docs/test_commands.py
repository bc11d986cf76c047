"""Commands and configurations in README.md, CONTRIBUTING.md, docs/ and the recipes' READMEs are ones that exist."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
RECIPES = sorted(ROOT.glob("egs2/*/slm1/README.md"))
DECLARATION = re.compile(r"^([a-z][a-z0-9_]*)=.*\s# ", re.MULTILINE)
OTHER_PROGRAMS = {"cd", "cp", "rm", ".", "python -m pip", "python -m mkdocs", "pip", "git", "tensorboard"}


def blocks(path: Path, *languages: str) -> Iterator[str]:
    """Code blocks in these languages; of a recipe's README also the indented ones that begin with a command."""
    text = path.read_text(encoding="utf-8")
    yield from re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if path in RECIPES:
        indented = re.findall(r"\n\n((?:    .*\n)+)", text)
        yield from (block for block in indented if re.match(r"\s+(?:[A-Z_0-9]+=\S+ )*(?:\./|python |make )", block))


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every command line of the shell, without leading assignments and comments."""
    for block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_0-9]+=", words[0]):
                words.pop(0)
            if words:
                yield words


def options(words: list[str]) -> set[str]:
    """Names of the options in a command line."""
    return {word.removeprefix("--") for word in words if re.fullmatch(r"--[a-z_]+", word)}


def declared(script: Path) -> set[str]:
    """Options that a shell script declares."""
    text = script.read_text(encoding="utf-8")
    return (
        set(DECLARATION.findall(text.split("# Options\n")[1].split("# End of options")[0]))
        if "# Options" in text
        else set()
    )


def known_options(words: list[str], path: Path) -> set[str]:
    """Options of the program that a command line calls.

    Raises:
        AssertionError: if there is no such program.
    """
    program = words[0]
    if program.endswith("run.sh"):
        recipes = [path.parent] if path in RECIPES else [each.parent for each in RECIPES]
        own = set().union(*(declared(recipe / "run.sh") for recipe in recipes))
        return {"help", *declared(ROOT / "egs2/TEMPLATE/slm1/slm.sh"), *own}
    if program.endswith("local/ablation.sh"):
        return options_of("harmonifuse_espnet.bin.compare")
    if words[:2] == ["python", "-m"] and words[2].startswith("harmonifuse_espnet.bin."):
        return options_of(words[2])
    if program == "python" and "tools/" in words[1]:
        script = ROOT / "tools" / Path(words[1]).name
        assert script.is_file(), f"{path}: no such file: {words[1]}"
        return {"help", *re.findall(r'"--([a-z_]+)"', script.read_text(encoding="utf-8"))}
    assert program in OTHER_PROGRAMS or " ".join(words[:3]) in OTHER_PROGRAMS, f"{path}: unknown program: {words}"
    return options(words)


def options_of(module: str) -> set[str]:
    """Options of a command of bin/."""
    parser = importlib.import_module(module).get_parser()
    return {option.removeprefix("--") for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize("path", PAGES + RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists_and_has_the_options(path: Path) -> None:
    makefile = (ROOT / "tools/Makefile").read_text(encoding="utf-8")
    for words in commands(path):
        if words[0] == "make":
            assert words[1:3] == ["-C", "tools"], words
            assert f"\n{words[3]}:" in makefile, f"{path}: no such target: {words[3]}"
            for assignment in words[4:]:
                assert assignment.split("=")[0] in makefile, f"{path}: unknown variable: {assignment}"
            continue
        unknown = options(words) - known_options(words, path)
        assert not unknown, f"{path}: {' '.join(words)}: no such options: {unknown}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_configuration_files_in_commands_exist(path: Path) -> None:
    for words in commands(path):
        for word in words:
            if re.fullmatch(r"conf/[\w/]+\.yaml", word):
                assert list(ROOT.glob(f"egs2/*/slm1/{word}")), f"{path}: no recipe has {word}"


def test_configurations_have_options_of_training_and_decoding() -> None:
    from harmonifuse_espnet.bin.decode import get_parser
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    known = {action.dest for parser in (HarmoniFuseTask.get_parser(), get_parser()) for action in parser._actions}
    for path in PAGES:
        for block in blocks(path, "yaml"):
            assert set(yaml.safe_load(block)) <= known | {"base", "gender"}, f"{path}:\n{block}"


def test_python_examples_compile_and_call_what_exists() -> None:
    import harmonifuse_espnet

    examples = [block for path in PAGES for block in blocks(path, "python")]
    assert any("Speech2Text.from_pretrained" in block for block in examples)
    for block in examples:
        compile(block, "example", "exec")
        for name in re.findall(r"from harmonifuse_espnet import (\w+)", block):
            assert name in harmonifuse_espnet.__all__
