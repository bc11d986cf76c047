"""Loading of checkpoints and configurations that earlier versions wrote.

The format version is written into config.yaml (``--format_version``) and into packed models:

1. before 0.2.0 (no version in the config);
2. 0.2.0: parameters of the gate, ``word_dropout`` and ``shuffle_window`` renamed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from harmonifuse_espnet.common.errors import InputError

FORMAT_VERSION = 2
RENAMED_PARAMETERS = {  # format 1 -> 2, prefixes of names
    "gate.query_norm.": "gate.prompt_norm.",
    "gate.gate_query.": "gate.gate_prompt.",
    "gate.task_query.": "gate.task_embedding.",
}
RENAMED_OPTIONS = {  # option -> old key -> new key
    "model_conf": {"answer_dropout": "word_dropout"},
    "task_batches": {"redraw": "shuffle_window"},
}


def check_format_version(version: int, where: str) -> None:
    """Check that this version can read a file of format ``version``; ``where`` names the file.

    Raises:
        InputError: if the format is newer than ``FORMAT_VERSION``.
    """
    if version > FORMAT_VERSION:
        raise InputError(
            f"{where}: format version {version}, this harmonifuse_espnet reads up to {FORMAT_VERSION}; "
            "install a newer harmonifuse_espnet"
        )


def upgrade_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the parameters of a checkpoint of an earlier format to their current names.

    Example:
        >>> upgrade_state_dict({"gate.gate_query.weight": 1, "gate.linguistic.weight": 2})
        {'gate.gate_prompt.weight': 1, 'gate.linguistic.weight': 2}
    """
    renamed = {}
    for name, value in state_dict.items():
        old = next((prefix for prefix in RENAMED_PARAMETERS if name.startswith(prefix)), "")
        renamed[RENAMED_PARAMETERS.get(old, "") + name.removeprefix(old)] = value
    return renamed


def rename_options(option: str, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Rename old keys of an option's mapping, with a warning; version 0.3 will not accept them.

    Raises:
        InputError: if both names are given.

    Example:
        >>> rename_options("model_conf", {"answer_dropout": 0.1})
        {'word_dropout': 0.1}
    """
    renamed = {}
    for name, value in conf.items():
        new = RENAMED_OPTIONS.get(option, {}).get(name, name)
        if new != name:
            if new in conf:
                raise InputError(f"{option} has both {new} and its old name {name}; remove {name}")
            logging.warning(f"{option}: {name} is now called {new}; version 0.3 will not accept the old name")
        renamed[new] = value
    return renamed
