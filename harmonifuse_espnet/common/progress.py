"""Progress of a long loop: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, unit: str, interval: float = 10.0) -> Iterator[Item]:
    """Yield the items and report on stderr how many of ``total`` are done.

    ``unit`` names the items, such as ``"files"``; lines of a log are at least ``interval`` seconds apart.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, unit=f" {unit}", leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= interval:
            last = now
            left = (now - start) / done * (total - done)
            print(f"{done} of {total} {unit} ({100 * done // total} %), about {left:.0f} s left", file=sys.stderr)
