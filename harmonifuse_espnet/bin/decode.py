"""Stage 7: decode a test set with a trained model.

Writes text (transcripts and labels), ctc_text (greedy CTC transcripts of text tasks), label_probs.jsonl (probability of
every label), gate.json (component gate in one utterance of each task) and run.json (model, options, number of
parameters, layer weights by task and prompt, time, real-time factor). To resume an interrupted call, run it again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.command_line import add_data_dir, add_ngpu, command_parser, require_file
from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.gpu import check_gpu_count, check_gpu_driver
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.common.option_types import Number, WholeNumber, mapping
from harmonifuse_espnet.common.resuming import file_fingerprint
from harmonifuse_espnet.inference.decoding import FEATS_TYPES, DecodeData, choose_prompts, decode, read_decode_data
from harmonifuse_espnet.inference.search_options import SearchOptions

SEARCH = ("beam_size", "ctc_weight", "length_penalty", "max_length_ratio", "generate")  # keywords of Speech2Text


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("decode", __doc__)
    add = parser.add_argument
    add("--config", help="YAML file with values for the options below")
    add("--train_config", required=True, help="config.yaml of the experiment")
    add("--model_file", required=True, help="checkpoint of the experiment")
    add_data_dir(parser, "dump folder of stage 2, or feature folder of stage 3")
    add("--out_dir", required=True, help="decode folder to write")
    add("--feats_type", choices=tuple(FEATS_TYPES), default="raw", help="contents of data_dir (default: raw)")
    add(
        "--batch_size",
        type=WholeNumber(1),
        default=16,
        help="utterances in a batch; results do not depend on it (default: 16)",
    )
    add_ngpu(parser)
    add(
        "--beam_size",
        type=WholeNumber(),
        default=1,
        help="beam size of the search for a transcript; 1: greedy search (default: 1)",
    )
    help = "weight of the CTC prefix scores in the search; 0: language model alone (default: 0.0)"
    add("--ctc_weight", type=Number(), default=0.0, help=help)
    help = "length normalisation a: beam search ranks by sum of token scores / length^a; 0: sum, 1: mean, "
    add("--length_penalty", type=Number(), default=0.0, help=help + "which favours longer hypotheses (default: 0.0)")
    help = "maximum number of tokens per connector frame (default: 1.0)"
    add("--max_length_ratio", type=Number(), default=1.0, help=help)
    help = "trained: the first prompt of each task; held_out: its held-out prompts in rotation (default: trained)"
    add("--prompts", default="trained", help=help)
    help = "further arguments of Hugging Face's generate, such as '{repetition_penalty: 1.2}'"
    add("--generate", type=mapping, default={}, help=help)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING)
    with report_user_errors():
        args = parse_with_config(get_parser(), cmd)
        search = {name: getattr(args, name) for name in SEARCH}
        SearchOptions(**search)
        choose_prompts(args.prompts, {}, {}, args.train_config)  # refuses an unknown value
        check_gpu_driver(args.ngpu)
        for path in (args.train_config, args.model_file):
            require_file(path, "stage 6 (training) creates it")
        data = read_decode_data(Path(args.data_dir), args.feats_type)
        with lock_folder(args.out_dir):
            print(decode_folder(args, data, search))


def decode_folder(args: argparse.Namespace, data: DecodeData, search: Mapping[str, Any]) -> str:
    """Load the model and decode a test set; return a summary. ``search`` are the options of the search."""
    from harmonifuse_espnet.inference.speech2text import Speech2Text

    check_gpu_count(args.ngpu)
    model = Speech2Text(args.train_config, args.model_file, "cuda" if args.ngpu else "cpu", **search)
    prompts = choose_prompts(args.prompts, data.tasks, model.tasks, args.train_config)
    settings = {**file_fingerprint(args.model_file), "data_dir": args.data_dir, "prompts": args.prompts, **search}
    speed = decode(model, data, Path(args.out_dir), prompts, args.batch_size, settings)
    return (
        f"{args.out_dir}: {len(data.speech)} utterances, {speed['audio_seconds']} s of audio decoded in "
        f"{speed['seconds']} s, real-time factor {speed['rtf']}"
    )


if __name__ == "__main__":
    main()
