"""The end of a process that loads data: one line with the likely cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from harmonifuse_espnet.common.errors import InputError

_KILLED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) (?:is killed by signal: (?P<signal>[^.]+))?"
)


@contextmanager
def report_killed_workers() -> Iterator[None]:
    """Say what to do if a process that loads data was killed.

    Raises:
        InputError: if it was.
    """
    try:
        yield
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
