"""Stage 6: train with ESPnet's trainer. Options are ESPnet's and those of ``HarmoniFuseTask``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harmonifuse_espnet.bin import friendly_errors
from harmonifuse_espnet.configs import parse_with_config


def get_parser() -> argparse.ArgumentParser:
    """ESPnet's parser with the task's options."""
    from harmonifuse_espnet.task import HarmoniFuseTask

    return HarmoniFuseTask.get_parser()


def main(cmd: Sequence[str] | None = None) -> None:
    """Train, or go on where an earlier run stopped."""
    from harmonifuse_espnet.task import HarmoniFuseTask

    with friendly_errors():
        HarmoniFuseTask.main(args=parse_with_config(get_parser(), cmd))


if __name__ == "__main__":
    main()
