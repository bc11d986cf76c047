"""Stage 4: train a sentencepiece tokenizer on the transcripts and prompts, or save a language model's own.

Training writes bpe.model and tokens.txt (one piece per line, in the order of ids). Every label and every prompt
word in the table of tasks becomes one token, except with --ctc true, since the CTC head predicts only transcripts.
With --llm or --llm_of, the tokenizer files of that model are saved, after a check that labels have different tokens.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_boolean, add_data_dir, add_tasks, command_parser
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.option_types import WholeNumber
from harmonifuse_espnet.data.provenance import check_sources
from harmonifuse_espnet.data.targets import read_targets
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer
from harmonifuse_espnet.data.tokenizer_training import (
    MODEL_TYPES,
    read_llm_name,
    save_llm_tokenizer,
    summarize,
    train_tokenizer,
)


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("train_tokenizer", __doc__)
    add = parser.add_argument
    add_data_dir(parser, "training set: data, dump or feature folder with text and utt2task")
    add_tasks(parser)
    add("--out_dir", required=True, help="folder to write")
    add(
        "--vocab_size",
        type=WholeNumber(1),
        default=100,
        help="maximum number of pieces, labels included (default: 100)",
    )
    add("--model_type", choices=MODEL_TYPES, default="unigram", help="sentencepiece model (default: unigram)")
    add_boolean(parser, "--ctc", default=False, help="train the tokenizer of the CTC head")
    add_boolean(parser, "--fresh", default=False, help="replace a different tokenizer in out_dir")
    add("--llm", help="save the tokenizer of this model instead (name on the Hugging Face Hub, or a folder)")
    help = "save the tokenizer of the model in this training configuration; --llm overrides it"
    add("--llm_of", metavar="CONFIG", help=help)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        tasks, out_dir = build_tasks(load_tasks(args.tasks)), Path(args.out_dir)
        check_sources(args.data_dir, "run that stage again: ./run.sh --stage 2")
        targets = read_targets(args.data_dir, tasks).values()
        transcripts = [target.text for target in targets if target.task.answer == "text"]
        llm = args.llm or (read_llm_name(args.llm_of) if args.llm_of else None)
        if args.ctc and not transcripts:
            raise InputError(f"{args.data_dir}: no transcripts for --ctc true; leave out --ctc_tokenizer_type")
        tokenizer: Tokenizer
        if llm:
            tokenizer = save_llm_tokenizer(llm, transcripts, tasks, out_dir, args.fresh)
        else:
            tokenizer = train_tokenizer(
                transcripts, {} if args.ctc else tasks, out_dir, args.vocab_size, args.model_type, args.fresh
            )
        print(summarize(tokenizer, transcripts if args.ctc else [target.text for target in targets], out_dir))


if __name__ == "__main__":
    main()
