"""Stage 5: lengths that batches are made from, and mean and variance of the features.

Writes speech_shape (utt, samples or frames), text_shape (utt, tokens of the answer and eos, vocabulary size) and, with
--feats_stats true, feats_stats.npz (frames, sums, sums of squares of log-mel features, in ESPnet's GlobalMVN format).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.data.stats import LENGTHS, feats_stats, speech_shape, text_shape
from harmonifuse_espnet.data.targets import read_targets
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.data.tokenizer import load_tokenizer

DEFAULT_MELS = 80


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_dir", required=True, help="dump folder of stage 2, or feature folder of stage 3")
    add("--tokenizer", required=True, help="folder of stage 4")
    add("--tasks", required=True, help="table of tasks (conf/tasks.yaml)")
    add("--out_dir", required=True, help="folder to write to")
    add("--feats_type", choices=tuple(LENGTHS), default="raw", help="what data_dir holds (default: raw)")
    add("--feats_stats", type=boolean, default=False, metavar="BOOL", help="write feats_stats.npz too (default: false)")
    add("--n_mels", type=int, help=f"mel bins of the features (default: train_config's, else {DEFAULT_MELS})")
    add("--train_config", help="training configuration whose frontend_conf says n_mels")
    add("--max_utterances", type=int, default=2000, help="size of the sample for feats_stats (default: 2000)")
    add("--seed", type=int, default=0, help="of the sample for feats_stats (default: 0)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        print(collect(args))


def collect(args: argparse.Namespace) -> str:
    """Collect and write the statistics; returns the summary.

    Raises:
        ValueError: if tables disagree, a task or label is unknown, or an option is out of range.
        OSError: if an input is missing or ``out_dir`` cannot be written.
    """
    data_dir, out_dir = Path(args.data_dir), Path(args.out_dir)
    if args.max_utterances < 1:
        raise InputError(f"--max_utterances must be at least 1, got {args.max_utterances}")
    answers = read_targets(data_dir, build_tasks(load_tasks(args.tasks)))
    tokenizer = load_tokenizer(args.tokenizer)
    files: dict[str, str | bytes] = {
        "speech_shape": speech_shape(data_dir, args.feats_type, answers),
        "text_shape": text_shape(answers, tokenizer),
    }
    summary = f"{out_dir}: lengths of {len(answers)} utterances"
    if args.feats_stats:
        n_mels = args.n_mels or _configured_mels(args.train_config)
        stats, sampled = feats_stats(data_dir, args.feats_type, n_mels, args.max_utterances, args.seed)
        files["feats_stats.npz"] = stats
        summary += f", features of {sampled} ({n_mels} mel bins)"
    write_files(out_dir, files)
    return summary


def _configured_mels(train_config: str | None) -> int:
    if train_config is None:
        return DEFAULT_MELS
    n_mels = (read_config(train_config).get("frontend_conf") or {}).get("n_mels", DEFAULT_MELS)
    if not isinstance(n_mels, int) or n_mels < 1:
        raise InputError(f"{train_config}: frontend_conf has n_mels {n_mels!r}, expected a number above 0")
    return n_mels


if __name__ == "__main__":
    main()
