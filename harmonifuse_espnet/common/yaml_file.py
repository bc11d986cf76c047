"""Reading of YAML: safe, with YAML 1.2's numbers (1e-3), without duplicate keys, with the line in every error."""

from __future__ import annotations

import re
from typing import Any

import yaml

from harmonifuse_espnet.common.errors import InputError

_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")  # YAML 1.1 needs the dot and the sign


class _Loader(yaml.SafeLoader):
    """Safe loader that reads ``1e-3`` as a number and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key '{key.value}', also in line {seen[key.value]}", key.start_mark
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML text; ``where`` is the file or option, for error messages.

    Raises:
        InputError: if it is not valid YAML; the message has the line.

    Example:
        >>> parse_yaml("{lr: 1e-3, tasks: [asr, ser]}", "--optim_conf")
        {'lr': 0.001, 'tasks': ['asr', 'ser']}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(_describe(error, where)) from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # such as the date 2024-99-99
        raise InputError(f"{where}: a value cannot be read as YAML ({error}); write it in quotes") from error
    except RecursionError as error:
        raise InputError(f"{where}: brackets are nested too deeply; correct the YAML") from error


def _describe(error: yaml.YAMLError, where: str) -> str:
    """Return a YAML error in one line, with the number of the line if it is known."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or " ".join(str(error).split())
    return f"{where}{line}: not valid YAML: {problem}; correct it"
