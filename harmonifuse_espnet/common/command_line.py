"""Types and parsers that the commands share."""

from __future__ import annotations

import argparse


def boolean(value: str) -> bool:
    """``true`` or ``false`` as ESPnet's options write them."""
    if value.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is not true or false")
    return value.lower() == "true"
