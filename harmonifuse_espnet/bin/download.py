"""Download a corpus that is free to download, for stage 1; a second call goes on where the first was cut."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.corpora.librispeech_archives import ARCHIVES, BASE_URL, download_subset


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m harmonifuse_espnet.bin.download", description=__doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    summary = "LibriSpeech from OpenSLR, each download checked by its published MD5 sum"
    corpus = corpora.add_parser("librispeech", help=summary, description=summary)
    corpus.add_argument("out_dir", type=Path, help="LibriSpeech/<subset> is made in it")
    corpus.add_argument(
        "--subsets", nargs="+", required=True, choices=ARCHIVES, metavar="SUBSET", help=", ".join(ARCHIVES)
    )
    corpus.add_argument(
        "--base_url", default=BASE_URL, help="of a mirror that has 12/<subset>.tar.gz (default: %(default)s)"
    )
    corpus.add_argument(
        "--keep_archives",
        type=boolean,
        default=False,
        metavar="true|false",
        help="keep the archives beside what was unpacked (default: false)",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Download what is not there."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        for subset in args.subsets:
            download_subset(args.out_dir, subset, args.base_url.rstrip("/"), args.keep_archives)


if __name__ == "__main__":
    main()
