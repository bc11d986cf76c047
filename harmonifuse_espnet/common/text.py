"""Reading of text files, which all tables, transcripts, csv and YAML files go through.

A file is UTF-8, with or without a byte order mark. Line ends are LF, CRLF or CR; no other character ends a line.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # content of a file that git-lfs has not downloaded
_WIDE_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # byte order marks
_DELIMITERS = (",", ";", "\t", "|")
_NOT_IN_NAMES = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")  # Unicode's categories: control, format, surrogate, spaces
_MAX_NAME_BYTES = 200  # file systems allow 255, with extension
_BYTE_ORDER_MARK = "\ufeff"
_INVISIBLE = "\ufeff\u200b\u2060\u00ad"  # zero-width spaces and the soft hyphen
_MAX_QUOTED = 100  # characters
_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


def read_text(path: str | Path, remedy: str = "correct the path", fallback: str | None = None) -> str:
    """Return the content of a text file, with ``\\n`` at the end of each line.

    Args:
        path: File to read.
        remedy: What to do if it does not exist, for the error message.
        fallback: Encoding of files that are not UTF-8, for a corpus that has such files; None to refuse them.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if it is a folder, a git-lfs pointer, or not UTF-8; the message has the line.
        AccessError: if it cannot be read for another reason, such as its permissions.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path}: no such file; {remedy}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, expected a text file; {remedy}") from error
    except ValueError as error:  # a zero byte or half of a surrogate pair in the path
        raise InputError(f"{quote(str(path))}: a path with a character that no path can have; {remedy}") from error
    except OSError as error:
        raise AccessError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if content.startswith(LFS_POINTER):
        raise InputError(f"{path}: a git-lfs pointer, not the file itself; run 'git lfs pull' in its repository")
    wide = _WIDE_MARKS.get(content[:2])
    if wide:
        raise InputError(f"{path}: {wide} text, expected UTF-8; convert it: iconv -f {wide} -t UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if fallback:
            return content.decode(fallback).replace("\r\n", "\n").replace("\r", "\n")
        line = _count_lines(content[: error.start])
        raise InputError(
            f"{path}:{line}: byte 0x{content[error.start]:02X} is not UTF-8; convert the file from its encoding, for "
            "example: iconv -f ISO-8859-1 -t UTF-8"
        ) from error
    if "\0" in text:
        line = _count_lines(content[: content.index(b"\0")])
        raise InputError(f"{path}:{line}: has a zero byte, so it is not a text file; restore the file")
    if _BYTE_ORDER_MARK in text:
        line = _count_lines(text.partition(_BYTE_ORDER_MARK)[0].encode())
        raise InputError(
            f"{path}:{line}: has a byte order mark in the middle, as in a file that was joined from others; remove it"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(
    path: str | Path, remedy: str = "correct the path", fallback: str | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line of a file; see :func:`read_text`."""
    lines = read_text(path, remedy, fallback).split("\n")
    yield from enumerate(lines[:-1] if lines[-1] == "" else lines, start=1)


def normalize_text(text: str, where: str) -> str:
    """Return a transcript or label in Unicode's form NFC, with one space for each run of white space.

    Args:
        text: Transcript or label.
        where: File or utterance, for the error message.

    Raises:
        InputError: if the text has a control character or another character that nobody can see.

    Example:
        >>> normalize_text(" CAFE\\u0301\\u00a0 NOIR ", "utt1")
        'CAFÉ NOIR'
    """
    words = " ".join(unicodedata.normalize("NFC", text).split())
    bad = next((char for char in words if char in _INVISIBLE or unicodedata.category(char) in ("Cc", "Cs")), None)
    if bad is not None:
        raise InputError(f"{where}: {quote(words)} has the invisible character {code_points(bad)}; remove it")
    return words


def check_name(name: str, where: str) -> None:
    """Check an utterance id, speaker id or name of a task, which must be visible and serve as a file name.

    Raises:
        InputError: if it is empty, has white space, a slash or an invisible character, is ``.`` or ``..``, or is
            longer than 200 bytes.
    """
    bad = next((char for char in name if char == "/" or unicodedata.category(char) in _NOT_IN_NAMES), None)
    if bad is not None:
        kind = "a slash" if bad == "/" else f"the space or invisible character {code_points(bad)}"
        raise InputError(f"{where}: {quote(name)} has {kind}; use letters, digits, '-' and '_'")
    if name in ("", ".", ".."):
        raise InputError(f"{where}: {quote(name)} cannot be a name; use letters, digits, '-' and '_'")
    size = len(name.encode())
    if size > _MAX_NAME_BYTES:
        raise InputError(f"{where}: '{name[:40]}...' has {size} bytes, at most {_MAX_NAME_BYTES} fit into a file name")


def code_points(text: str) -> str:
    """Return the code points of a text.

    Example:
        >>> code_points("e\\u0301")
        'U+0065 U+0301'
    """
    return " ".join(f"U+{ord(char):04X}" for char in text)


def find_twin(name: str, others: Iterable[str]) -> str | None:
    """Return the first of ``others`` that looks like ``name`` but has other code points, for error messages.

    Example:
        >>> find_twin("CAF\\u00c9", ["TEA", "CAFE\\u0301"]) == "CAFE\\u0301"
        True
    """
    form = unicodedata.normalize("NFC", name)
    return next((other for other in others if other != name and unicodedata.normalize("NFC", other) == form), None)


def quote(value: Any) -> str:
    """Return a value as in Python, for error messages: in one line, with escapes, and shortened.

    Example:
        >>> quote("a\\nb"), quote("9" * 200) == "'" + "9" * 100 + "'..."
        ("'a\\\\nb'", True)
    """
    if isinstance(value, str):
        return repr(value[:_MAX_QUOTED]) + ("..." if len(value) > _MAX_QUOTED else "")
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def parse_decimal(text: str) -> float:
    """Return a finite number in ASCII digits, as other programs write it, with or without an exponent.

    Raises:
        ValueError: if it is another text, such as ``nan``, ``1_0`` or a number in other digits.

    Example:
        >>> parse_decimal("-1.5e1")
        -15.0
    """
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"{quote(text)} is not a number")
    return float(text)


def read_csv(path: str | Path, columns: Collection[str], remedy: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the line and the values of ``columns`` for each row of a csv file.

    The file may be separated by commas, semicolons, tabs or bars, and may have other columns as well.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if a column is missing or a duplicate, or a row has another number of fields.
    """
    text = read_text(path, remedy)
    header = text.split("\n", 1)[0]
    parsed = {delimiter: _split_row(header, delimiter) for delimiter in _DELIMITERS}
    chosen = next((delimiter for delimiter, names in parsed.items() if set(columns) <= set(names)), None)
    if chosen is None:
        raise InputError(f"{path}: has the columns {quote(header)}, expected {', '.join(columns)}; {remedy}")
    names = parsed[chosen]
    repeated = [column for column in columns if names.count(column) > 1]
    if repeated:
        raise InputError(f"{path}: has two columns {quote(repeated[0])}; {remedy}")
    rows = csv.reader(io.StringIO(text[len(header) + 1 :], newline=""), delimiter=chosen, strict=True)
    try:
        for row in rows:
            number = rows.line_num + 1
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(names):
                raise InputError(f"{path}:{number}: {len(row)} fields, the header has {len(names)}; {remedy}")
            values = dict(zip(names, (field.strip() for field in row), strict=True))
            yield number, {column: values[column] for column in columns}
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num + 1}: not csv ({error}); {remedy}") from error


def _split_row(row: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([row], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _count_lines(content: bytes) -> int:
    """Return the number of the line that follows ``content``."""
    return len(re.findall(rb"\r\n|\r|\n", content)) + 1
