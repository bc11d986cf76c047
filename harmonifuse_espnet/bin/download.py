"""Stage 1: download a corpus that is freely available. To resume an interrupted download, run the command again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_boolean, command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.corpora.librispeech_archives import ARCHIVES, BASE_URL, download_subset


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser, with a sub-command for each corpus."""
    parser = command_parser("download", __doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    summary = "LibriSpeech from OpenSLR; downloads are verified by their published MD5 sums"
    corpus = corpora.add_parser("librispeech", help=summary, description=summary)
    corpus.add_argument("out_dir", type=Path, help="parent of LibriSpeech/<subset>")
    corpus.add_argument(
        "--subsets", nargs="+", required=True, choices=ARCHIVES, metavar="SUBSET", help=", ".join(ARCHIVES)
    )
    help = "URL of a mirror that has 12/<subset>.tar.gz (default: %(default)s)"
    corpus.add_argument("--base_url", default=BASE_URL, help=help)
    add_boolean(corpus, "--keep_archives", default=False, help="keep the archives after unpacking")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        for subset in args.subsets:
            download_subset(args.out_dir, subset, args.base_url.rstrip("/"), args.keep_archives)


if __name__ == "__main__":
    main()
