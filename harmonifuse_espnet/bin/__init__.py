"""One thin command a stage: parse the arguments, call the package, say what was done."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def friendly_errors() -> Iterator[None]:
    """End a command with one clear line and exit status 1 where the user's input is at fault.

    ``HARMONIFUSE_DEBUG=1`` shows the traceback as well.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("HARMONIFUSE_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def boolean(value: str) -> bool:
    """``true`` or ``false`` as ESPnet's options write them."""
    if value.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is not true or false")
    return value.lower() == "true"
