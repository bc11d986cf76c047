"""Errors that the user can correct, and how a command reports them.

Everything else (a ``ValueError`` from inside PyTorch, a bug of ours) keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can correct. The message names the file or option, what was found, and the remedy."""


class InputError(UserError, ValueError):
    """An option, a file's content, audio or text that cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not there; the message names the stage that makes it."""


class AccessError(UserError, OSError):
    """A folder, a server or the Hub that cannot be read or written."""


@contextmanager
def report_user_errors() -> Iterator[None]:
    """End a command with one line on stderr and exit status 1 on a :class:`UserError` or an error of the system.

    ``HARMONIFUSE_DEBUG=1`` shows their traceback as well.
    """
    try:
        yield
    except (UserError, OSError) as error:
        if os.environ.get("HARMONIFUSE_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
