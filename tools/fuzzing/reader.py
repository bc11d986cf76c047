"""A reader of text files, as the fuzzing benchmark calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Contents = Mapping[str, Sequence[bytes]]  # file in the folder -> valid contents; the first is there while others change


@dataclass(frozen=True)
class Reader:
    """One function of the package that reads text.

    Attributes:
        set_up: Makes the other files in an empty folder; returns the files that are damaged.
        read: Reads the files of the folder.
        find_loss: From the name of the damaged file, its text with ``\\n`` at the end of each line, and the result:
            what the result lacks of the text, or an empty text.
        fallback: Encoding of files that are not UTF-8; None if they must be refused.
    """

    set_up: Callable[[Path], Contents]
    read: Callable[[Path], Any]
    find_loss: Callable[[str, str, Any], str]
    fallback: str | None = None


def damaged(**contents: Sequence[str]) -> Callable[[Path], Contents]:
    """Return a ``set_up`` of files that are all damaged; ``__`` in a name is its dot."""
    files = {name.replace("__", "."): [text.encode() for text in texts] for name, texts in contents.items()}
    return lambda folder: files
