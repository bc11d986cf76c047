"""Configurations that build on others: ``base: ../train.yaml`` and the lines that differ."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harmonifuse_espnet.common.errors import InputError, MissingFileError


def read_config(path: str | Path) -> dict[str, Any]:
    """A YAML configuration, merged onto its ``base`` and that one's: mappings merge, everything else replaces.

    ``base`` is relative to the path as it is given, so that folders that are links have the base beside the link.

    Raises:
        FileNotFoundError: if there is no such file or base.
        ValueError: if a file is not YAML or not a mapping, or bases go round in a circle.
    """
    return _read(os.path.normpath(path), ())


def merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` put onto ``base``.

    Example:
        >>> merge({"optim": "adamw", "optim_conf": {"lr": 0.1, "fused": True}}, {"optim_conf": {"lr": 0.2}})
        {'optim': 'adamw', 'optim_conf': {'lr': 0.2, 'fused': True}}
    """
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_with_config(parser: argparse.ArgumentParser, cmd: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse options whose ``--config`` may have a ``base``, of which ESPnet's own parser knows nothing.

    As there, the configuration's values become the parser's defaults, so that the command line wins, and all its keys
    must be options. ESPnet's ``--print_config`` parses the command line once more by itself, and refuses a base.

    Raises:
        FileNotFoundError: if there is no such configuration or base.
        ValueError: if it cannot be read, or has a key that is no option.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    found, rest = finder.parse_known_args(cmd)
    if found.config is not None:
        config = read_config(found.config)
        unknown = sorted(set(config) - {action.dest for action in parser._actions})
        if unknown:
            raise InputError(f"{found.config}: no such options: {', '.join(unknown)}; --help lists those there are")
        parser.set_defaults(**config)
    args = parser.parse_args(rest)
    args.config = found.config
    return args


def _read(path: str, above: tuple[str, ...]) -> dict[str, Any]:
    if path in above:
        raise InputError(f"{path}: base goes round in a circle: {' -> '.join([*above, path])}; leave one out")
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        named = f", which {above[-1]} names as its base" if above else ""
        raise MissingFileError(f"{path}: no such configuration{named}; correct the path") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise InputError(f"{path}: a configuration must be a mapping of options to values, got {config!r}")
    base = config.pop("base", None)
    if base is None:
        return config
    if not isinstance(base, str):
        raise InputError(f"{path}: base must be the path of one configuration, got {base!r}")
    return merge(_read(os.path.normpath(os.path.join(os.path.dirname(path), base)), (*above, path)), config)
