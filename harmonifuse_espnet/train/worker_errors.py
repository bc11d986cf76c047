"""Errors in the processes that load data: one line, as if they were raised in the process that trains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from harmonifuse_espnet.common.errors import InputError, UserError

_IN_WORKER = re.compile(r"Caught (?P<name>\w+) in \w+ worker process \d+\.\s")
_KILLED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) (?:is killed by signal: (?P<signal>[^.]+))?"
)


def plain_message(error: BaseException) -> str:
    """Return the message of an error without the traceback that PyTorch puts into it in a worker process.

    Example:
        >>> text = "Caught InputError in DataLoader worker process 0.\\nOriginal Traceback (most recent call last):\\n"
        >>> plain_message(InputError(text + "  File ...\\nharmonifuse_espnet.common.errors.InputError: a: empty\\n"))
        'a: empty'
    """
    text = str(error)
    caught = _IN_WORKER.match(text)
    if caught is None:
        return text
    *_, last = re.split(rf"^(?:[\w.]+\.)?{caught['name']}: ", text, flags=re.MULTILINE)
    return last.strip()


@contextmanager
def plain_worker_errors() -> Iterator[None]:
    """Give errors from worker processes their plain message; say what to do if a worker was killed.

    Raises:
        UserError: if it was raised in a worker.
        InputError: if a worker was killed.
    """
    try:
        yield
    except UserError as error:
        if _IN_WORKER.match(str(error)) is None:
            raise
        raise type(error)(plain_message(error)) from error
    except RuntimeError as error:
        killed = _KILLED.search(str(error))
        if killed is None:
            raise
        signal = "" if killed["signal"] in (None, "Killed") else f" by the signal '{killed['signal']}'"
        raise InputError(
            f"a process that loads data (pid {killed['pid']}) was ended{signal}, probably because the memory of the "
            "machine was full; use a smaller num_workers or smaller batches (batch_size, batch_bins), then run the "
            "command again with --resume true"
        ) from error
