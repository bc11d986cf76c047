"""Stage 6: train with ESPnet's trainer. Options are ESPnet's and those of ``HarmoniFuseTask``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import report_user_errors


def get_parser() -> argparse.ArgumentParser:
    """ESPnet's parser with the task's options."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    return HarmoniFuseTask.get_parser()


def main(cmd: Sequence[str] | None = None) -> None:
    """Train, or go on where an earlier run stopped."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    with report_user_errors():
        HarmoniFuseTask.main(args=parse_with_config(get_parser(), cmd))


if __name__ == "__main__":
    main()
