"""What a result lacks of the text that was read: lines, characters or values that were dropped without an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text; the last line may have no line end."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def visible(*texts: str) -> str:
    """Return the characters of texts that are no white space."""
    return "".join("".join(text.split()) for text in texts)


def lost_count(expected: int, found: int, what: str) -> str:
    """Return an error if ``found`` differs from ``expected``."""
    return "" if expected == found else f"{expected} {what} in the text, {found} in the result"


def lost_lines(lines: Iterable[str], found: Iterable[str]) -> str:
    """Compare lines and the results of these lines, both without white space."""
    lines, found = [visible(line) for line in lines], [visible(each) for each in found]
    if len(lines) != len(found):
        return lost_count(len(lines), len(found), "lines")
    return next(
        (f"of {ours!r} only {theirs!r}" for ours, theirs in zip(lines, found, strict=True) if ours != theirs), ""
    )


def lost_rows(text: str, table: Mapping[str, str]) -> str:
    """Compare the lines of a two-column table with its keys and values."""
    return lost_lines(lines_of(text), (f"{key} {value}" for key, value in table.items()))


def count_values(value: Any) -> int:
    """Return the number of keys and of single values in nested mappings and lists."""
    count, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, Mapping):
            count += len(each)
            left.extend(each.values())
        elif isinstance(each, (list, tuple)):
            left.extend(each)
        else:
            count += 1
    return count


def lost_json(text: str, found: Any) -> str:
    """Compare the number of keys and values; duplicate keys count."""
    pairs: list[int] = []
    content = json.loads(text, object_pairs_hook=lambda found: pairs.append(len(found)) or [each for _, each in found])
    return lost_count(count_values(content) + sum(pairs), count_values(found), "values")


def lost_yaml(text: str, found: Any) -> str:
    """Compare the number of keys and values; texts with aliases, merge keys or explicit types are left out."""
    if any(word in text for word in ("*", "<<", "!", "=")):
        return ""
    try:
        expected = _count_nodes(yaml.compose(text, Loader=_YAML))
    except yaml.YAMLError:  # libyaml differs from PyYAML in rare cases
        return ""
    return lost_count(expected, count_values(found), "values")


def _count_nodes(root: yaml.Node | None) -> int:
    count, left = 0, [root]
    while left:
        node = left.pop()
        if isinstance(node, yaml.MappingNode):
            count += len(node.value)
            left.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            left.extend(node.value)
        else:
            count += 1
    return count
