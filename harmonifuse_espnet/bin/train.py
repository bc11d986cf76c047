"""Stage 6: train a model with ESPnet's trainer.

The options are ESPnet's and those of `HarmoniFuseTask`. With `--resume true`, an interrupted training is resumed from
the end of its last completed epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.gpu import check_gpu_count
from harmonifuse_espnet.train.options import check_command


def get_parser() -> argparse.ArgumentParser:
    """Return ESPnet's parser with the options of the task."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    return HarmoniFuseTask.get_parser()


def main(cmd: Sequence[str] | None = None) -> None:
    with report_user_errors():
        check_command(cmd)
        from harmonifuse_espnet.train.task import HarmoniFuseTask

        args = parse_with_config(get_parser(), cmd)
        check_gpu_count(args.ngpu)
        HarmoniFuseTask.main(args=args)


if __name__ == "__main__":
    main()
