"""Errors that the user can correct, and how a command reports them.

Every other error (a ``ValueError`` inside PyTorch, a bug of this package) keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

WORKER_KILLED = (
    "a worker process was killed, most likely because memory ran out; use fewer processes (--nj), then run the command "
    "again; completed work is kept"
)


class UserError(Exception):
    """An error that the user can correct. The message names the file or option, the value found, and the remedy."""


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
