"""Reading of YAML: safe, with YAML 1.2's numbers (1e-3), without duplicate keys, with the line in every error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import quote, read_text

_STRING, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")  # YAML 1.1 needs the dot and the sign


class _DumpLoader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys. It is not libyaml's, which crashes on deeply nested brackets."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            value, line = self.construct_object(key), key.start_mark.line + 1
            if value in seen:  # also 1 and 0x1, or yes and true
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {quote(key.value)}, also in line {seen[value]}", key.start_mark
                )
            seen[value] = line
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Join surrogate pairs, which JSON's escapes have."""
        value = super().construct_scalar(node)
        if not isinstance(value, str) or not _SURROGATE.search(value):
            return value
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            problem = "one half of a surrogate pair is no character"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


class _Loader(_DumpLoader):
    """The same, but ``1e-3`` is a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: str | Path, remedy: str = "correct the path", dumped: bool = False) -> Any:
    """Return the content of a YAML file.

    Args:
        path: File to read.
        remedy: What to do if it does not exist, for the error message.
        dumped: Whether PyYAML wrote the file, which writes the text ``1e-3`` without quotes.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if it is not UTF-8 or not valid YAML.
    """
    return parse_yaml(read_text(path, remedy), str(path), dumped)


def parse_yaml(text: str, where: str, dumped: bool = False) -> Any:
    """Return the value of a YAML text; ``where`` is the file or option, for error messages.

    ``dumped`` is as in :func:`read_yaml`.

    Raises:
        InputError: if it is not valid YAML; the message has the line.

    Example:
        >>> parse_yaml("{lr: 1e-3, tasks: [asr, ser]}", "--optim_conf")
        {'lr': 0.001, 'tasks': ['asr', 'ser']}
    """
    try:
        return yaml.load(text, Loader=_DumpLoader if dumped else _Loader)
    except yaml.YAMLError as error:
        raise InputError(_describe(error, where)) from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # such as the date 2024-99-99
        raise InputError(f"{where}: a value cannot be read as YAML ({error}); write it in quotes") from error
    except RecursionError as error:
        raise InputError(f"{where}: brackets are nested too deeply; correct the YAML") from error


def check_strings(text: str, where: str) -> None:
    """Check that YAML reads every key and value of a text as a string: not ``NO`` as false, nor ``01`` as 1.

    Raises:
        InputError: with the line and the word that it would replace.
    """
    root = yaml.compose(text, Loader=_Loader)
    for node in _scalars(root, set()) if root else ():
        if node.tag != _STRING and (node.value or node.tag != _NULL):
            value = _Loader("").construct_object(node)
            raise InputError(
                f"{where}:{node.start_mark.line + 1}: YAML reads {node.value[:50]} as {quote(value)}, not as a word; "
                f'write it in quotes: "{node.value[:50]}"'
            )


def _scalars(node: yaml.Node, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    """Yield all scalars in a tree; nodes with an alias are visited once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, seen)
    else:
        for pair in node.value:
            for item in pair:
                yield from _scalars(item, seen)


def _describe(error: yaml.YAMLError, where: str) -> str:
    """Return a YAML error in one line, with the number of the line if it is known."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or " ".join(str(error).split())
    return f"{where}{line}: not valid YAML: {problem}; correct it"
