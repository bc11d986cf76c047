"""Types of option values, for the command line and for configurations; an error says what was found and expected."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from humanfriendly import InvalidSize, parse_size

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.yaml_file import parse_yaml

OptionType = Callable[[str], Any]
NONE_WORDS = ("none", "null", "nil")  # ESPnet's words for None
TRUE_WORDS = ("y", "yes", "t", "true", "on", "1")
FALSE_WORDS = ("n", "no", "f", "false", "off", "0")


@dataclass(frozen=True)
class WholeNumber:
    """Type of an option that is a whole number, from ``minimum`` to ``maximum`` (None: no limit).

    Example:
        >>> WholeNumber(1)("1e3")
        1000
    """

    minimum: int | None = None
    maximum: int | None = None

    def __call__(self, text: str) -> int:
        """Parse a number.

        Raises:
            argparse.ArgumentTypeError: if it is not a whole number or out of range.
        """
        value = _whole(text)
        if value is None:
            raise ArgumentTypeError(f"'{text}' is not a whole number; expected a number {self._range()}")
        if (self.minimum is not None and value < self.minimum) or (self.maximum is not None and value > self.maximum):
            raise ArgumentTypeError(f"{value} is out of range; expected a whole number {self._range()}")
        return value

    def _range(self) -> str:
        if self.minimum is None:
            return "such as 3"
        return f"from {self.minimum}" + (f" to {self.maximum}" if self.maximum is not None else "")


@dataclass(frozen=True)
class Number:
    """Type of an option that is a real number; ``inf`` is allowed, NaN is not.

    Attributes:
        minimum: Smallest value; None for no limit.
        exclusive: Whether ``minimum`` itself is out of range.

    Example:
        >>> Number(0)("1e-3")
        0.001
    """

    minimum: float | None = None
    exclusive: bool = False

    def __call__(self, text: str) -> float:
        """Parse a number.

        Raises:
            argparse.ArgumentTypeError: if it is not a number or out of range.
        """
        expected = "a number such as 0.5"
        if self.minimum is not None:
            expected = f"a number {'above' if self.exclusive else 'from'} {self.minimum:g}"
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise ArgumentTypeError(f"'{text}' is not a number; expected {expected}")
        if self.minimum is not None and (value < self.minimum or (self.exclusive and value == self.minimum)):
            raise ArgumentTypeError(f"{text} is out of range; expected {expected}")
        return value


@dataclass(frozen=True)
class OrNone:
    """Type of an option that is of another type, or None: ``none``, ``null`` or ``nil``."""

    type: OptionType

    def __call__(self, text: str) -> Any:
        """Parse a value of the other type, or None."""
        return None if text.strip().lower() in NONE_WORDS else self.type(text)


def yes_or_no(text: str) -> bool:
    """Parse a Boolean with all of ESPnet's words: ``true``, ``yes``, ``1``, ...

    Raises:
        argparse.ArgumentTypeError: on another word.
    """
    word = text.strip().lower()
    if word not in (*TRUE_WORDS, *FALSE_WORDS):
        raise ArgumentTypeError(f"'{text}' is not true or false")
    return word in TRUE_WORDS


def size(text: str) -> int:
    """Parse a number of bytes, such as ``80GB``.

    Raises:
        argparse.ArgumentTypeError: if it is not a size.
    """
    try:
        return parse_size(text)
    except InvalidSize as error:
        raise ArgumentTypeError(f"'{text}' is not a size; expected a number of bytes such as 80GB") from error


def triple(text: str) -> tuple[str, str, str]:
    """Parse ``path,name,type``; only the last two commas separate, so that the path can have commas.

    Raises:
        argparse.ArgumentTypeError: if there are fewer than two commas.

    Example:
        >>> triple("dump/a, b/wav.scp,speech,sound")
        ('dump/a, b/wav.scp', 'speech', 'sound')
    """
    parts = text.rsplit(",", 2)
    if len(parts) < 3:
        raise ArgumentTypeError(f"'{text}' is not three values separated by commas")
    return parts[0], parts[1].strip(), parts[2].strip()


@dataclass(frozen=True)
class Structured:
    """Type of an option whose value is YAML; in a configuration, it can be a list or mapping.

    Attributes:
        parse: Parses the text of the command line.
        kinds: Types of a configuration's value that are not parsed.
    """

    parse: OptionType
    kinds: tuple[type, ...] = (dict, list)

    def __call__(self, text: str) -> Any:
        """Parse a value.

        Raises:
            argparse.ArgumentTypeError: if it is not valid.
        """
        try:
            return self.parse(text)
        except (InputError, MissingFileError) as error:
            raise ArgumentTypeError(str(error)) from error


def _parse_any(text: str) -> Any:
    return parse_yaml(text, f"'{text}'")


def _parse_mapping(text: str) -> dict[str, Any]:
    value = _parse_any(text)
    if not isinstance(value, dict):
        raise InputError(f"'{text}' is not a mapping; expected '{{key: value}}'")
    return value


structured = Structured(_parse_any)  # a word, a number, a list or a mapping
mapping = Structured(_parse_mapping, (dict,))


def _whole(text: str) -> int | None:
    """Return a whole number such as 3, 1e3 or 3.0; None if it is none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value.is_integer() else None
