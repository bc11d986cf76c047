"""Make stand-ins to try a recipe end to end before spending GPU time, or before the licensed corpus is at hand.

  iemocap      IEMOCAP_full_release: all 10,039 turns and 151 dialogs of the release by name, the published number of
               each label by session, both speakers, and the release's traps; the audio is short tones
  librispeech  LibriSpeech: subsets of any size, of short tones (prepare them with --check_counts false)
  models       models/wavlm and models/qwen2: tiny random models in Hugging Face's folder format

Nothing in them is speech, and no score on them means anything.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from stand_ins import iemocap, librispeech, models

KINDS = ("iemocap", "librispeech", "models")


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="where they are made")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--seconds", nargs=2, type=float, default=(0.1, 0.3), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--seed", type=int, default=0, help="of words, lengths and noise (default: %(default)s)")
    parser.add_argument(
        "--subsets",
        nargs="+",
        metavar="NAME=COUNT",
        help="of librispeech (default: " + " ".join(f"{k}={v}" for k, v in librispeech.DEFAULT_SUBSETS.items()) + ")",
    )
    parser.add_argument(
        "--empty",
        action="store_true",
        help="librispeech: empty FLAC files, by default the release's 281,241 training utterances: to time preparation",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Make what is asked for, each complete or absent."""
    args = get_parser().parse_args(cmd)
    try:
        make_stand_ins(args.out_dir, args.kinds or KINDS, tuple(args.seconds), args.seed, args.subsets, args.empty)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def make_stand_ins(
    out_dir: Path,
    kinds: Sequence[str],
    seconds: tuple[float, float] = (0.1, 0.3),
    seed: int = 0,
    subsets: Sequence[str] | None = None,
    empty: bool = False,
) -> None:
    """Make stand-ins of some kinds and say what was made.

    Raises:
        ValueError: on an unknown kind, lengths or subsets that make no sense.
        OSError: if one is there already, or cannot be written.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"there is no stand-in '{unknown[0]}'; there are {', '.join(KINDS)}")
    if not 0.1 <= seconds[0] <= seconds[1]:
        raise ValueError(f"--seconds {seconds[0]} {seconds[1]}: expected 0.1 <= SHORTEST <= LONGEST")
    for kind in kinds:
        folder = {"iemocap": iemocap.FOLDER, "librispeech": librispeech.FOLDER, "models": "models"}[kind]
        if (out_dir / folder).exists():
            raise FileExistsError(f"{out_dir / folder}: already there; remove it or choose another folder")
        unfinished = out_dir / f".{kind}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if kind == "iemocap":
            made = f"{iemocap.make_iemocap(unfinished, seconds, seed)} turns"
        elif kind == "librispeech":
            sizes = parse_subsets(subsets, empty)
            count = librispeech.make_librispeech(unfinished, sizes, None if empty else seconds, seed)
            made = f"{count} utterances of {', '.join(sizes)}"
        else:
            made = " and ".join(Path(path).name for path in models.make_models(unfinished / folder))
        (unfinished / folder).rename(out_dir / folder)
        unfinished.rmdir()
        print(f"{out_dir / folder}: {made}")


def parse_subsets(rules: Sequence[str] | None, empty: bool) -> dict[str, int]:
    """``NAME=COUNT`` -> name -> count.

    Raises:
        ValueError: if one is not ``NAME=COUNT`` with a positive count.
    """
    if rules is None:
        return librispeech.FULL_TRAINING if empty else librispeech.DEFAULT_SUBSETS
    sizes = {}
    for rule in rules:
        name, _, count = rule.partition("=")
        if not name or not count.isdecimal() or int(count) < 1:
            raise ValueError(f"--subsets {rule}: expected NAME=COUNT, such as train-clean-5=200")
        sizes[name] = int(count)
    return sizes


if __name__ == "__main__":
    main()
