"""Stage 5: collect lengths for batching, and feature statistics for mean and variance normalisation.

Writes speech_shape (utterance, samples or frames), text_shape (utterance, number of target tokens with eos, vocabulary
size) and, with --feats_stats true, feats_stats.npz (number of frames, sums and sums of squares of log-mel features, in
the format of ESPnet's GlobalMVN).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_boolean, add_data_dir, add_tasks, command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.option_types import WholeNumber
from harmonifuse_espnet.data.stats import DEFAULT_MELS, LENGTH_TABLES, collect_stats, read_n_mels


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("collect_stats", __doc__)
    add = parser.add_argument
    add_data_dir(parser, "dump folder of stage 2, or feature folder of stage 3")
    add("--tokenizer", required=True, help="folder of stage 4")
    add_tasks(parser)
    add("--out_dir", required=True, help="folder to write")
    add("--feats_type", choices=tuple(LENGTH_TABLES), default="raw", help="contents of data_dir (default: raw)")
    add_boolean(parser, "--feats_stats", default=False, help="also write feats_stats.npz")
    add(
        "--n_mels", type=WholeNumber(1), help=f"number of mel bins (default: that in train_config, else {DEFAULT_MELS})"
    )
    add("--train_config", help="training configuration whose frontend_conf has n_mels")
    add(
        "--max_utterances",
        type=WholeNumber(1),
        default=2000,
        help="maximum number of utterances for feats_stats, drawn at random (default: 2000)",
    )
    add("--seed", type=WholeNumber(0), default=0, help="seed of that draw (default: 0)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        n_mels = (args.n_mels or read_n_mels(args.train_config)) if args.feats_stats else None
        summary = collect_stats(
            Path(args.data_dir),
            Path(args.out_dir),
            args.tasks,
            args.tokenizer,
            feats_type=args.feats_type,
            n_mels=n_mels,
            max_utterances=args.max_utterances,
            seed=args.seed,
        )
        print(summary)


if __name__ == "__main__":
    main()
