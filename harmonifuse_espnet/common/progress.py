"""Progress of a long loop: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, what: str, seconds: float = 10.0) -> Iterator[Item]:
    """Pass the items on and show on stderr how many of ``total`` are done.

    Args:
        items: What is looped over.
        total: How many there are.
        what: What is counted, for example ``"files"``.
        seconds: The least time between two lines of a log.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, unit=f" {what}", leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            left = (now - start) / done * (total - done)
            print(f"{done} of {total} {what} ({100 * done // total} %), about {left:.0f} s left", file=sys.stderr)
