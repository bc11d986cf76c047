"""Stage 9: pack a trained model into one archive.

The archive has the config, the weights as a `.safetensors` file, the tokenizers, the statistics, the pre-trained models
whose folders are in the config, and RESULTS.md with its images, with relative paths only. `Speech2Text.from_pretrained`
reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import command_parser
from harmonifuse_espnet.common.errors import report_user_errors


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("pack", __doc__)
    parser.add_argument("--train_config", required=True, help="config.yaml of the experiment")
    parser.add_argument("--model_file", required=True, help="checkpoint of the experiment, such as valid.loss.ave.pth")
    parser.add_argument("--out", required=True, help="archive to write, a .zip file")
    parser.add_argument("--readme", help="RESULTS.md, packed with its images")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        from harmonifuse_espnet.inference.packing import collect_contents, write_archive

        out = Path(args.out)
        readme = Path(args.readme) if args.readme else None
        contents = collect_contents(Path(args.train_config), Path(args.model_file), readme)
        write_archive(out, contents)
        print("\n".join([*contents, f"{out}: {out.stat().st_size:,} bytes"]))


if __name__ == "__main__":
    main()
