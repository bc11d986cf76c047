"""Errors that the user can correct, and how a command reports them.

Every other error (a ``ValueError`` inside PyTorch, a bug of this package) keeps its traceback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from unicodedata import category

WORKER_KILLED = (
    "a worker process was killed, most likely because memory ran out; use fewer processes (--nj), then run the command "
    "again; completed work is kept"
)
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, separators of lines and paragraphs
_IN_WORKER = re.compile(r"Caught (?P<name>\w+) in \w+ worker process \d+\.\s")
_MAX_LENGTH = 1500  # characters of a message


class UserError(Exception):
    """An error that the user can correct. The message names the file or option, the value found, and the remedy.

    Line ends and other control characters of a value found are escaped, and a long message is shortened in its middle.
    PyTorch raises an error of a process that loads data again, with its traceback in the message, which is left out.

    Example:
        >>> str(UserError("text:1: got 'a\\nb'; correct the line"))
        "text:1: got 'a\\\\nb'; correct the line"
    """

    def __init__(self, message: str) -> None:
        worker = _IN_WORKER.match(message)
        if worker:
            message = re.split(rf"^(?:[\w.]+\.)?{worker['name']}: ", message, flags=re.MULTILINE)[-1].strip()
        if not message.isprintable():
            message = "".join(repr(char)[1:-1] if category(char) in _CONTROL else char for char in message)
        if len(message) > _MAX_LENGTH:
            message = f"{message[: _MAX_LENGTH // 2]} ... {message[-_MAX_LENGTH // 2 :]}"
        super().__init__(message)


class InputError(UserError, ValueError):
    """An invalid option, file content, audio file or text."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that does not exist; the message names the stage that creates it."""


class AccessError(UserError, OSError):
    """A folder, server or Hugging Face repository that cannot be read or written."""


@contextmanager
def report_user_errors() -> Iterator[None]:
    """End a command with one line on stderr and exit status 1 on a :class:`UserError` or ``OSError``.

    A worker process that was killed is such an error as well: the usual cause is that memory ran out. With
    ``HARMONIFUSE_DEBUG=1`` in the environment, these errors keep their traceback.
    """
    try:
        yield
    except (UserError, OSError, BrokenProcessPool) as error:
        if os.environ.get("HARMONIFUSE_DEBUG") == "1":
            raise
        message = WORKER_KILLED if isinstance(error, BrokenProcessPool) else str(error)
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from error
