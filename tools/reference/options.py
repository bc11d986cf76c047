"""Options of commands: ESPnet's parser extended by HarmoniFuse, the commands of bin/, and slm.sh."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reference.markdown import code, inline, table

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "harmonifuse_espnet" / "bin"
SLM = ROOT / "egs2" / "TEMPLATE" / "slm1"
ORDER = [  # of the pipeline; commands that are not listed come last
    *("prepare_data", "download", "format_audio", "extract_features", "train_tokenizer", "collect_stats", "align"),
    *("plan", "train", "decode", "score", "write_results", "compare", "pack", "upload"),
]
HELP_LINE = re.compile(r"  --(?P<name>\w+) +(?P<help>.*) \[(?P<value>.*)\]")


def run_section() -> str:
    """Return the options of ``slm.sh --help``, a table for each of its groups."""
    done = subprocess.run(["bash", "slm.sh", "--help"], cwd=SLM, text=True, capture_output=True, check=True)
    groups: dict[str, list[list[str]]] = {}
    heading = ""
    for line in done.stdout.splitlines():
        option = HELP_LINE.fullmatch(line)
        if option:
            row = [f"`--{option['name']}`", code(option["value"]), inline(option["help"])]
            groups.setdefault(heading, []).append(row)
        elif line and not line.startswith(" "):
            heading = line
    return "\n\n".join(
        f"### {name}\n\n{table(['option', 'default', 'description'], rows)}" for name, rows in groups.items()
    )


def training_section() -> str:
    """Return the options of training that HarmoniFuse adds to ESPnet's, without those that choose a class."""
    from harmonifuse_espnet.train.registry import CLASS_CHOICES
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    chosen = {name for choices in CLASS_CHOICES for name in (choices.name, f"{choices.name}_conf")}
    actions = _group(HarmoniFuseTask.get_parser(), "HarmoniFuse")
    rows = [
        [f"`{action.dest}`", _default(action), _help(action)]
        for action in actions
        if action.dest not in chosen and action.help != argparse.SUPPRESS
    ]
    return table(["option", "default", "description"], rows)


def decoding_section() -> str:
    """Return the options of ``conf/decode.yaml``: those of bin/decode that ``run.sh`` does not set."""
    from harmonifuse_espnet.bin.decode import get_parser

    set_by_run = {"help", "config", "train_config", "model_file", "data_dir", "out_dir", "feats_type", "ngpu"}
    rows = [
        [f"`{action.dest}`", _default(action), _help(action)]
        for action in get_parser()._actions
        if action.dest not in set_by_run
    ]
    return table(["option", "default", "description"], rows)


def commands_section() -> str:
    """Return every command of bin/ with its description and options."""
    names = {path.stem for path in BIN.glob("[a-z]*.py")}
    ordered = [name for name in ORDER if name in names] + sorted(names - set(ORDER))
    return "\n\n".join(_command(name) for name in ordered)


def _command(name: str) -> str:
    module = importlib.import_module(f"harmonifuse_espnet.bin.{name}")
    parts = [f"### {name}"]
    if name in ("train", "plan"):  # ESPnet has about 200 options
        extra = _group(module.get_parser(), "Plan") if name == "plan" else []
        parts.append(_paragraphs(module.__doc__ or ""))
        parts.append("The options are ESPnet's, which `--help` lists, and those of [Training options](training.md).")
        return "\n\n".join([*parts, *([_option_table(extra)] if extra else [])])
    parser = module.get_parser()
    parts.append(_paragraphs(parser.description or ""))
    parts += _tables(parser)
    return "\n\n".join(parts)


def _tables(parser: argparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f"`{name}`: {_paragraphs(sub.description or '')}"
                yield _option_table(sub._actions)
            return
    yield _option_table(parser._actions)


def _option_table(actions: Iterable[argparse.Action]) -> str:
    rows = []
    for action in actions:
        if action.dest == "help" or action.help == argparse.SUPPRESS:
            continue
        name = f"`{action.option_strings[-1]}`" if action.option_strings else f"`{action.dest}`"
        rows.append([name, "required" if action.required else _default(action), _help(action)])
    return table(["option", "default", "description"], rows)


def _group(parser: argparse.ArgumentParser, title: str) -> list[argparse.Action]:
    return next(group._group_actions for group in parser._action_groups if title in (group.title, group.description))


def _default(action: argparse.Action) -> str:
    default = action.default
    if default is None or default == argparse.SUPPRESS or default in ([], {}, ()):
        return ""
    return code(default)


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "", "default": action.default}
    shown = "|".join(re.escape(form) for form in _forms(action.default))
    text = re.sub(rf"\s*[\[(](?:default: )?(?:{shown})[\])]", "", text)  # the default has a column of its own
    choices = [str(choice) for choice in action.choices or ()]
    if not all(re.search(rf"\b{re.escape(choice)}\b", text) for choice in choices):
        several = action.nargs in ("+", "*")
        text = f"{text}; {'one or more' if several else 'one'} of {', '.join(choices)}"
    return inline(text)


def _forms(default: Any) -> list[str]:
    """Return the ways in which a help text may write a default."""
    forms = [str(default), str(default).lower()]
    if isinstance(default, float):
        forms.append(f"{default:g}")
    if isinstance(default, (list, tuple)):
        forms.append(" ".join(map(str, default)))
    return forms


def _paragraphs(text: str) -> str:
    return "\n\n".join(inline(paragraph) for paragraph in text.strip().split("\n\n"))
