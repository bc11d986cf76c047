"""Stage 5 with --align true: find the word boundaries of the training set by forced alignment.

Writes `ctm` into the dump folder, for augmentation by word recombination (`recombine` in `preprocessor_conf`). An
utterance is left out if its greedy CTC transcript has a word error rate above 50 %, or one of its words is shorter than
60 ms. A `ctm` of the same model and tables is kept. To resume an interrupted call, run the command again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_data_dir, add_ngpu, command_parser, require_file
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.gpu import check_gpu_count, check_gpu_driver
from harmonifuse_espnet.common.option_types import WholeNumber


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("align", __doc__)
    parser.add_argument("--train_config", required=True, help="config.yaml of the experiment")
    parser.add_argument("--model_file", required=True, help="checkpoint of the experiment")
    add_data_dir(parser, "dump folder of stage 2, to which the ctm is written")
    parser.add_argument(
        "--batch_size",
        type=WholeNumber(1),
        default=16,
        help="utterances in a batch; the result does not depend on it (default: 16)",
    )
    add_ngpu(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING)
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        check_gpu_driver(args.ngpu)
        for path in (args.train_config, args.model_file):
            require_file(path, "stage 5 with --pretrain_config creates it")
        require_file(Path(args.data_dir) / "wav.scp", "format_audio (stage 2) creates it")
        from harmonifuse_espnet.inference.align import align_dump

        check_gpu_count(args.ngpu)
        device = "cuda" if args.ngpu else "cpu"
        print(align_dump(args.train_config, args.model_file, Path(args.data_dir), args.batch_size, device))


if __name__ == "__main__":
    main()
