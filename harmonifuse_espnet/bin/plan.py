"""Stage 6 with --plan true: print the number of parameters and steps, and estimate memory and training time.

Takes the training options. Parameters and memory are computed from shapes and need no weights; steps and the largest
batch are read from the shape files of stage 5. The training time needs the weights, the audio and `--steps_measured`.
If training does not fit into memory, the exit status is 1.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.gpu import check_gpu_count
from harmonifuse_espnet.common.option_types import WholeNumber, size
from harmonifuse_espnet.train.options import check_command
from harmonifuse_espnet.train.worker_errors import report_killed_workers

REQUIRED = ["tasks", "tokenizer"]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of training, with the options of the plan."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    parser = HarmoniFuseTask.get_parser()
    parser.prog, parser.description = "python -m harmonifuse_espnet.bin.plan", __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(required=REQUIRED)
    _add_options(parser)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the plan to those of training."""
    group = parser.add_argument_group("Plan")
    group.add_argument(
        "--device_memory",
        type=size,
        help="memory of each GPU, or of the machine if --ngpu is 0, such as 80GB (default: that of this machine)",
    )
    group.add_argument(
        "--steps_measured",
        type=WholeNumber(0),
        default=0,
        help="number of steps of each task to time on this machine, to estimate the training time (default: 0)",
    )


def main(cmd: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING)
    with report_user_errors(), report_killed_workers():
        check_command(cmd, REQUIRED, _add_options, lambda args: args.steps_measured > 0)
        from harmonifuse_espnet.train.plan import plan_training
        from harmonifuse_espnet.train.task import HarmoniFuseTask

        args = parse_with_config(get_parser(), cmd)
        check_gpu_count(min(args.ngpu, 1) if args.steps_measured else 0)
        HarmoniFuseTask.check_required_command_args(args)
        for number, section in enumerate(plan_training(args)):
            print(f"\n{section}" if number else section, flush=True)


if __name__ == "__main__":
    main()
