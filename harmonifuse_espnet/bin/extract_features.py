"""Stage 3 (optional): extract features once, to train several models on a small corpus.

`fbank`: log-mel frames, for `frontend: logmel` with `feats_type: fbank`; `ssl`: hidden states of selected layers of a
frozen encoder, for `frontend: precomputed`. To resume an interrupted call, run the command again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_data_dir, add_ngpu, command_parser, require_file
from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.gpu import check_gpu_count, check_gpu_driver


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("extract_features", __doc__)
    parser.add_argument("--feats_type", required=True, choices=["fbank", "ssl"], help="features to extract")
    add_data_dir(parser, "dump folder of stage 2")
    parser.add_argument("--out_dir", required=True, help="feature folder to write")
    parser.add_argument(
        "--config",
        help="YAML file: 'n_mels' for fbank; 'frontend_conf' (of the huggingface frontend) and 'layers' for ssl",
    )
    add_ngpu(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        check_gpu_driver(args.ngpu)
        conf = read_config(args.config) if args.config else {}
        require_file(Path(args.data_dir) / "wav.scp", "format_audio (stage 2) creates it")
        from harmonifuse_espnet.inference.extractors import extract_features

        check_gpu_count(args.ngpu)
        device = "cuda" if args.ngpu else "cpu"
        print(extract_features(args.feats_type, Path(args.data_dir), Path(args.out_dir), conf, device))


if __name__ == "__main__":
    main()
