"""Argument parser of the commands, and the options that several commands share."""

from __future__ import annotations

import argparse

BOOLEAN = "true|false"


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``bin/<name>.py``; ``description``, the module's docstring, keeps its line breaks."""
    return argparse.ArgumentParser(
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
    parser.add_argument("--ngpu", type=int, default=0, help="0: CPU, 1: one GPU (default: 0)")
