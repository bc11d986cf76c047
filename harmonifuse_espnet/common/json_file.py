"""Reading of JSON: finite numbers, without duplicate keys, with the line in every error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import quote, read_lines, read_text

_MAX_DIGITS = 300  # of a number


def read_json(path: str | Path, remedy: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        MissingFileError: if the file does not exist; ``remedy`` says what to do.
        InputError: if it is not UTF-8, not valid JSON, or has a duplicate key, NaN or an infinity.
    """
    return _parse(read_text(path, remedy), str(path), None, remedy)


def read_json_lines(path: str | Path, remedy: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the mapping of each line of a JSON Lines file.

    Raises:
        MissingFileError: if the file does not exist; ``remedy`` says what to do.
        InputError: if a line is not a JSON mapping, as in :func:`read_json`.
    """
    for number, line in read_lines(path, remedy):
        entry = _parse(line, str(path), number, remedy)
        if not isinstance(entry, dict):
            raise InputError(f"{path}:{number}: expected a JSON mapping, got {quote(entry)}; {remedy}")
        yield number, entry


def _parse(text: str, path: str, number: int | None, remedy: str) -> Any:
    """Parse a file, or its line ``number``."""
    where = path if number is None else f"{path}:{number}"
    try:
        content = json.loads(
            text, object_pairs_hook=_mapping, parse_constant=_refuse, parse_float=_float, parse_int=_int
        )
        if "\\ud" in text.lower():
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number or error.lineno}: not valid JSON: {error.msg}; {remedy}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: has one half of a surrogate pair, which is no character; {remedy}") from error
    except ValueError as error:
        raise InputError(f"{where}: {error}; {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{where}: brackets are nested too deeply; {remedy}") from error
    return content


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {quote(next(key for key in keys if keys.count(key) > 1))}")
    return mapping


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a finite number")


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:_MAX_DIGITS])


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits, at most {_MAX_DIGITS} are expected")
    return int(text)
