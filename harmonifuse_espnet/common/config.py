"""YAML configurations that extend another one: ``base: ../train.yaml`` and the options that differ."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.command_line import CommandParser, config_value
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.common.yaml_file import read_yaml


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a YAML configuration and merge it over its ``base``, which can have a base as well.

    Mappings are merged, other values are replaced. ``base`` is relative to the folder of ``path``; symbolic links are
    not resolved.

    Raises:
        MissingFileError: if the file or a base does not exist.
        InputError: if a file is not YAML or not a mapping, or the bases are circular.
    """
    return _read(os.path.normpath(path), ())


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``override``; nested mappings are merged.

    Example:
        >>> merge({"optim": "adamw", "optim_conf": {"lr": 0.1, "fused": True}}, {"optim_conf": {"lr": 0.2}})
        {'optim': 'adamw', 'optim_conf': {'lr': 0.2, 'fused': True}}
    """
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def find_changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield the differences between two nested mappings, each with both values.

    Example:
        >>> next(find_changes({"optim_conf": {"lr": 0.002}}, {"optim_conf": {"lr": 0.001}}))
        'optim_conf.lr was 0.002, is now 0.001'
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            path = f"{name}.{key}" if name else str(key)
            yield from find_changes(old.get(key, "not set"), new.get(key, "not set"), path)
    elif old != new:
        yield f"{name} was {old}, is now {new}"


def parse_with_config(parser: argparse.ArgumentParser, cmd: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse options whose ``--config`` may have a ``base``, which ESPnet's own parser does not support.

    As in ESPnet, the configuration's values become the parser's defaults: options on the command line override them,
    and every key must be an option. Unlike in ESPnet, the values are checked and converted as on the command line.
    ESPnet's ``--print_config`` does not support ``base``.

    Raises:
        MissingFileError: if the configuration or a base does not exist.
        InputError: if a file cannot be read, or has a key that is not an option, or a value that the option does not
            take.
    """
    finder = CommandParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    found, rest = finder.parse_known_args(cmd)
    if found.config is not None:
        config = read_config(found.config)
        actions = {action.dest: action for action in parser._actions}
        unknown = sorted(str(key) for key in config if key not in actions)
        if unknown:
            raise InputError(f"{found.config}: unknown options: {', '.join(unknown)}; --help lists all options")
        for key, value in config.items():
            try:
                parser.set_defaults(**{key: config_value(actions[key], value)})
            except InputError as error:
                raise InputError(f"{found.config}: {key}: {error}") from error
    args = parser.parse_args(rest)
    args.config = found.config
    return args


def _read(path: str, chain: tuple[str, ...]) -> dict[str, Any]:
    """Read ``path``; ``chain`` are the configurations that lead to it by their ``base``, in order."""
    if path in chain:
        raise InputError(f"{path}: circular base: {' -> '.join([*chain, path])}; remove one of these 'base' lines")
    config = _load_mapping(path, chain)
    base = config.pop("base", None)
    if base is None:
        return config
    if not isinstance(base, str):
        raise InputError(f"{path}: base must be the path of one configuration, got {quote(base)}")
    return merge(_read(os.path.normpath(os.path.join(os.path.dirname(path), base)), (*chain, path)), config)


def _load_mapping(path: str, chain: tuple[str, ...]) -> dict[str, Any]:
    referrer = f"it is the base of {chain[-1]}; " if chain else ""
    config = read_yaml(path, f"{referrer}correct the path")
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise InputError(f"{path}: a configuration must be a mapping of options to values, got {quote(config)}")
    return config
