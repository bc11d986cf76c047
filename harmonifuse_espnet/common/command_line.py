"""Argument parser of the commands, and the options that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.option_types import OrNone, Structured, WholeNumber, structured

BOOLEAN = "true|false"
_ENTRY = re.compile(r"(?P<keys>[^\s={}\[\],:'\"]+)=(?P<value>.*)", re.DOTALL)  # key=value or key.sub=value


class CommandParser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, without the list of all options."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the command line; an unknown option is an error that names a similar one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(describe_unknown(unknown[0], self))
        return parsed

    def error(self, message: str) -> NoReturn:
        """End the command with one line on stderr and exit status 2."""
        self.exit(2, f"error: {message.removeprefix('argument ')}\n")


def describe_unknown(word: str, parser: argparse.ArgumentParser) -> str:
    """Return the message for a word of the command line that is not an option, with the most similar option."""
    if not word.startswith("-"):
        return f"'{word}' belongs to no option; put values with spaces in quotes, and -- before every option's name"
    similar = get_close_matches(word.partition("=")[0], list(parser._option_string_actions), n=1)
    hint = f"did you mean {similar[0]}? " if similar else ""
    return f"unknown option {word.partition('=')[0]}; {hint}--help lists all options"


class DictAction(argparse.Action):
    """Option that takes ``key=value``, ``key.sub=value`` or ``'{key: value}'``, and can be repeated.

    The syntax is that of ESPnet's ``NestedDictAction``, which evaluates values as Python; here they are safe YAML.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Set the entries of ``values`` in the option's mapping."""
        current = getattr(namespace, self.dest, None)
        merged = deepcopy(current) if isinstance(current, dict) else {}
        try:
            _set_entries(merged, str(values))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, merged)


def _set_entries(target: dict[str, Any], text: str) -> None:
    """Set ``key=value``, or all entries of a YAML mapping, in ``target``."""
    entry = _ENTRY.fullmatch(text.strip())
    if entry is None:
        value = structured(text)
        if not isinstance(value, dict):
            raise argparse.ArgumentTypeError(f"'{text}' has no value; expected key=value or '{{key: value}}'")
        target.update(value)
        return
    *parents, last = entry["keys"].split(".")
    for key in parents:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[last] = _entry_value(entry["value"])


def _entry_value(text: str) -> Any:
    """Return the YAML value of ``key=text``; a path with ' #' or the like stays as it is."""
    value = structured(text) if text.strip() else text
    if isinstance(value, dict) and not text.lstrip().startswith("{"):
        raise argparse.ArgumentTypeError(f"'{text}' has a colon and a space; write it in quotes, or a mapping in {{}}")
    is_plain = isinstance(value, str) and text.strip()[:1] not in ("'", '"', "|", ">", "!", "&")
    return text.strip() if is_plain else value


def config_value(action: argparse.Action, value: Any) -> Any:
    """Check a configuration's value of an option, and convert it as on the command line.

    Args:
        action: The option.
        value: The value, as YAML has it. An option that takes several values can have one that is not in a list; words
            are put into one, since they would be taken for a list of letters, and numbers stay as they are.

    Raises:
        InputError: if the value is not of the option's type, or is not one of its choices.
    """
    if isinstance(action, DictAction):
        if not isinstance(value, dict):
            raise InputError(f"{value!r} is not a mapping; expected '{{key: value}}'")
        return value
    try:
        if action.nargs == 0:  # a flag, such as --print_config
            return value
        is_single = action.nargs is None and not isinstance(action, argparse._AppendAction)
        if is_single or (action.nargs in ("+", "*") and isinstance(value, (int, float))):  # keep_nbest_models: 3
            return _item(action, value)
        return _list(action, value)
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        raise InputError(str(error)) from error


def _list(action: argparse.Action, value: Any) -> list[Any]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if isinstance(action.nargs, int) and len(items) != action.nargs:
        raise argparse.ArgumentTypeError(f"{value!r} has {len(items)} values, expected {action.nargs}")
    return [_item(action, item) for item in items]


def _item(action: argparse.Action, value: Any) -> Any:
    convert: Any = action.type
    is_parsed = isinstance(convert, Structured) and isinstance(value, convert.kinds)
    if convert is None or is_parsed or (value is None and action.default is None):
        converted = value
    elif isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{value!r} is a mapping; expected one value")
    elif value is None:
        if not isinstance(convert, OrNone) and None not in (action.choices or ()):
            raise argparse.ArgumentTypeError("null is no value of this option; remove the line to use the default")
        converted = None
    else:
        converted = convert(_text(value))
    if action.choices is not None and converted not in action.choices:
        known = ", ".join(str(choice) for choice in action.choices)
        raise argparse.ArgumentTypeError(f"'{value}' is unknown; expected one of: {known}")
    return converted


def _text(value: Any) -> str:
    """Return the value as it is written on the command line."""
    if isinstance(value, (list, tuple)) and len(value) == 3:  # a criterion: [valid, acc, max]
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def require_file(path: str | Path, remedy: str) -> None:
    """Check that a file exists.

    Raises:
        MissingFileError: if it does not; the message ends with ``remedy``.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such file; {remedy}")


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``bin/<name>.py``; ``description``, the module's docstring, keeps its line breaks."""
    return CommandParser(
        prog=f"python -m harmonifuse_espnet.bin.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def boolean(value: str) -> bool:
    """Parse ``true`` or ``false`` as in ESPnet's options.

    Raises:
        argparse.ArgumentTypeError: on another value.
    """
    if value.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is not true or false")
    return value.lower() == "true"


def add_boolean(parser: argparse.ArgumentParser, option: str, default: bool, help: str) -> None:
    """Add an option that takes ``true`` or ``false``; the help text ends with the default.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_boolean(parser, "--resume", default=True, help="continue from the last checkpoint")
        >>> parser.parse_args(["--resume", "false"]).resume
        False
    """
    text = f"{help} (default: {str(default).lower()})"
    parser.add_argument(option, type=boolean, default=default, metavar=BOOLEAN, help=text)


def add_data_dir(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the required option ``--data_dir``."""
    parser.add_argument("--data_dir", required=True, help=help)


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add ``--tasks``, the table of tasks."""
    parser.add_argument("--tasks", required=True, help="table of tasks (conf/tasks.yaml)")


def add_ngpu(parser: argparse.ArgumentParser) -> None:
    """Add ``--ngpu``."""
    parser.add_argument("--ngpu", type=WholeNumber(0, 1), default=0, help="0: CPU, 1: one GPU (default: 0)")
