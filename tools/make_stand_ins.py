"""Make stand-ins to try a recipe end to end before spending GPU time, or before the licensed corpus is at hand.

  iemocap      IEMOCAP_full_release: all 10,039 turns and 151 dialogs of the release by name, the published number of
               each label by session, both speakers, and the release's traps; the audio is short tones; --turns 400 is
               enough to try a recipe
  librispeech  LibriSpeech: subsets of any size, of short tones (prepare them with --check_counts false)
  models       models/wavlm and models/qwen2: tiny random models in Hugging Face's folder format

Nothing in them is speech, and no score on them means anything.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stand_ins import iemocap, librispeech, models

from harmonifuse_espnet.corpora.iemocap_labels import WAVS

FOLDERS = {"iemocap": iemocap.FOLDER, "librispeech": librispeech.FOLDER, "models": models.FOLDER}


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="where they are made")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(FOLDERS)} (default: all)")
    parser.add_argument("--seconds", nargs=2, type=float, default=(0.1, 0.3), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--seed", type=int, default=0, help="of words, lengths and noise (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=WAVS, help="of iemocap (default: %(default)s, all)")
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
        make_stand_ins(**vars(args) | {"kinds": args.kinds or list(FOLDERS)})
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def make_stand_ins(
    out_dir: Path,
    kinds: Sequence[str],
    seconds: tuple[float, float] = (0.1, 0.3),
    seed: int = 0,
    turns: int = WAVS,
    subsets: Sequence[str] | None = None,
    empty: bool = False,
) -> None:
    """Make stand-ins of some kinds and say what was made.

    Raises:
        ValueError: on an unknown kind, lengths or subsets that make no sense.
        OSError: if one is there already, or cannot be written.
    """
    sizes = parse_subsets(subsets, empty)
    shortest, longest = seconds
    if not 0.1 <= shortest <= longest:
        raise ValueError(f"--seconds {shortest} {longest}: expected 0.1 <= SHORTEST <= LONGEST")
    makers: dict[str, Callable[[Path], int]] = {
        "iemocap": lambda folder: iemocap.make_iemocap(folder, seconds, seed, turns),
        "librispeech": lambda folder: librispeech.make_librispeech(folder, sizes, None if empty else seconds, seed),
        "models": models.make_models,
    }
    for kind in kinds:
        if kind not in makers:
            raise ValueError(f"there is no stand-in '{kind}'; there are {', '.join(makers)}")
        final, unfinished = out_dir / FOLDERS[kind], out_dir / f".{kind}.unfinished"
        if final.exists():
            raise FileExistsError(f"{final}: already there; remove it or choose another folder")
        shutil.rmtree(unfinished, ignore_errors=True)
        count = makers[kind](unfinished)
        (unfinished / final.name).rename(final)
        unfinished.rmdir()
        print(f"{final}: {count:,} {'models' if kind == 'models' else 'utterances'}")


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
