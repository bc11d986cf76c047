"""Stage 10: upload a packed model to the Hugging Face Hub, with a model card that includes its RESULTS.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_boolean, command_parser
from harmonifuse_espnet.common.errors import report_user_errors


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("upload", __doc__)
    parser.add_argument("--packed", required=True, help="packed model of stage 9")
    parser.add_argument("--repo", required=True, help="repository, user/name; created if it does not exist")
    add_boolean(parser, "--dry_run", False, "list the files without uploading them; needs no network")
    add_boolean(parser, "--private", False, "make a new repository private")
    parser.add_argument(
        "--license", default="cc-by-4.0", help="licence of the model, by the Hub's identifier (default: cc-by-4.0)"
    )
    parser.add_argument("--language", default="en", help="language of the training data (default: en)")
    parser.add_argument("--dataset", action="append", default=[], help="a training corpus; can be repeated")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        from harmonifuse_espnet.inference.hub import ModelCard, list_files, repository_folder, upload

        card = ModelCard(args.license, args.language, args.dataset)
        with repository_folder(Path(args.packed), args.repo, card) as folder:
            action = "would be uploaded" if args.dry_run else "are being uploaded"
            print(f"these files {action} to https://huggingface.co/{args.repo}:", list_files(folder), sep="\n")
            if not args.dry_run:
                print(f"uploaded: {upload(folder, args.repo, args.private)}")


if __name__ == "__main__":
    main()
