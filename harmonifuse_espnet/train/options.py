"""Check of the training options before PyTorch and ESPnet, whose import takes many seconds, are imported.

``options.json`` describes the options of ESPnet's parser; ``tools/make_docs.py`` writes it. With another version of
ESPnet, or after a change of the modules in ``SOURCES``, the options may differ: errors are then left to the parser.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from harmonifuse_espnet.common.command_line import CommandParser, DictAction, require_file
from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.option_types import (
    Number,
    OptionType,
    OrNone,
    Structured,
    WholeNumber,
    size,
    structured,
    triple,
    yes_or_no,
)
from harmonifuse_espnet.data.tasks import load_tasks
from harmonifuse_espnet.train.inputs import REQUIRED, check_inputs

DESCRIPTION = Path(__file__).with_name("options.json")
SOURCES = ("registry.py", "task.py")  # modules that define options
MINIMUM = {  # of options that are whole numbers
    "accum_grad": 1,
    "batch_bins": 1,
    "batch_size": 1,
    "gate_size": 1,
    "max_epoch": 1,
    "min_batch_size": 1,
    "ngpu": 0,
    "num_iters_per_epoch": 1,
    "num_workers": 0,
    "patience": 0,
    "seed": 0,
    "valid_batch_bins": 1,
    "valid_batch_size": 1,
}


def _load_table(path: str) -> dict[str, Any]:
    require_file(path, "give the table of tasks (conf/tasks.yaml)")
    return load_tasks(path)


table_of_tasks = Structured(_load_table, (dict,))
OTHER = "other"  # kind of an option whose type is not known: every value is accepted
SAME = {"lower": str.lower, "upper": str.upper}  # kinds of choices in any case
KINDS: dict[str, OptionType] = {  # name of the function that ESPnet's parser has as the type -> type
    "float": Number(),
    "float_or_none": OrNone(Number()),
    "humanfriendly_parse_size_or_none": OrNone(size),
    "parse_size": size,
    "str": str,
    "str2bool": yes_or_no,
    "str2triple_str": triple,
    "str_or_int": str,
    "str_or_none": OrNone(str),
    "structured": structured,
    "table_of_tasks": table_of_tasks,
}


def option_type(kind: str, name: str) -> OptionType | None:
    """Return the type of an option; None for a kind that is not known."""
    if kind in ("int", "int_or_none"):
        number = WholeNumber(MINIMUM.get(name))
        return number if kind == "int" else OrNone(number)
    return OrNone(SAME[kind]) if kind in SAME else KINDS.get(kind)


def kind_of(action: argparse.Action) -> str:
    """Return the kind of an option of ESPnet's parser: the name of its type, or what its lambda does."""
    for name, known in (("structured", structured), ("table_of_tasks", table_of_tasks)):
        if action.type is known:
            return name
    convert: Any = action.type or str
    name = getattr(convert, "__name__", OTHER)
    if name == "<lambda>":
        name = next((kind for kind, function in SAME.items() if convert("Aa") == function("Aa")), OTHER)
    return name if option_type(name, action.dest) else OTHER


def adapt(parser: argparse.ArgumentParser) -> None:
    """Give ESPnet's parser the types of this package, whose errors are one line and whose values are safe YAML."""
    for action in parser._actions:
        if _is_dict(action):
            action.__class__ = DictAction  # same attributes; argparse has no way to replace an action
        elif kind_of(action) not in (OTHER, *SAME):
            action.type = option_type(kind_of(action), action.dest)
    parser.error = partial(_refuse, parser)  # type: ignore[method-assign]


def describe(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the content of ``options.json`` for ESPnet's parser, before :func:`adapt`."""
    return {"made_from": made_from(), "options": [_describe(action) for action in parser._actions]}


def made_from() -> dict[str, str]:
    """Return what determines the options: the version of ESPnet, and a fingerprint of each module in ``SOURCES``."""
    sources = {name: DESCRIPTION.with_name(name).read_bytes() for name in SOURCES}
    return {"espnet": version("espnet"), **{name: sha256(text).hexdigest()[:16] for name, text in sources.items()}}


def _describe(action: argparse.Action) -> dict[str, Any]:
    described: dict[str, Any] = {"names": list(action.option_strings), "dest": action.dest}
    if _is_dict(action):
        described["action"] = "dict"
    elif isinstance(action, (argparse._StoreTrueAction, argparse._HelpAction)):
        return {**described, "action": "store_true"}
    else:
        described["kind"] = kind_of(action)
        described |= {"action": "append"} if isinstance(action, argparse._AppendAction) else {}
        described |= {"nargs": action.nargs} if action.nargs is not None else {}
        described |= {"choices": list(action.choices)} if action.choices is not None else {}
    return {**described, "default": action.default}


def _is_dict(action: argparse.Action) -> bool:
    return isinstance(action, DictAction) or type(action).__name__ == "NestedDictAction"


class _CheckParser(CommandParser):
    """Parser that raises an error instead of ending the command."""

    def error(self, message: str) -> NoReturn:
        _refuse(self, message)


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise InputError(message.removeprefix("argument "))


def build_parser(description: dict[str, Any]) -> argparse.ArgumentParser:
    """Return a parser of the described options."""
    parser = _CheckParser(add_help=False)
    for option in description["options"]:
        keywords = {name: option[name] for name in ("action", "nargs", "choices", "default") if name in option}
        if keywords.get("action") == "dict":
            keywords["action"] = DictAction
        if "kind" in option:
            keywords["type"] = option_type(option["kind"], option["dest"])
        parser.add_argument(*option["names"], dest=option["dest"], **keywords)
    return parser


def check_command(
    cmd: Sequence[str] | None,
    required: Sequence[str] = REQUIRED,
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    needs_gpu: Callable[[argparse.Namespace], bool] = lambda args: args.ngpu > 0,
) -> None:
    """Check the command line of training, its configuration, and whether the files that they name exist.

    Args:
        cmd: Command line; None for that of this process.
        required: Options that must be given.
        add_options: Adds further options to the parser.
        needs_gpu: Whether the GPUs of ``--ngpu`` are used.

    Raises:
        InputError: if an option is unknown, missing or has a wrong value.
        MissingFileError: if a file does not exist; the message names the stage that creates it.
    """
    description = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    parser = build_parser(description)
    parser.set_defaults(required=required)
    add_options(parser)
    try:
        args = parse_with_config(parser, cmd)
    except InputError:
        if description["made_from"] == made_from():
            raise
        return
    if not args.help and not args.print_config:
        check_inputs(args, needs_gpu(args))
