"""Create synthetic corpora and randomly initialised models, to test a recipe without the real corpora and weights.

  iemocap      IEMOCAP_full_release: 10,039 turns in 151 dialogs, with the names, speakers and irregularities of the
               release and its published number of each label in each session; --turns 400 is enough for a test
  librispeech  LibriSpeech: subsets of any size (prepare them with --check_counts false)
  models       models/wavlm and models/qwen2: small randomly initialised models in Hugging Face's folder format

The audio consists of short tones, so scores on it are meaningless.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from synthetic import iemocap, librispeech, models

from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.corpora.iemocap_labels import WAVS

FOLDERS = {"iemocap": iemocap.FOLDER, "librispeech": librispeech.FOLDER, "models": models.FOLDER}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="folder in which the corpora and models are created")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"what to create: {', '.join(FOLDERS)} (default: all)")
    parser.add_argument(
        "--seconds",
        nargs=2,
        type=float,
        default=(0.1, 0.3),
        metavar=("SHORTEST", "LONGEST"),
        help="minimum and maximum duration of the utterances (default: 0.1 0.3)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of words, lengths and noise (default: %(default)s)"
    )
    parser.add_argument("--turns", type=int, default=WAVS, help="iemocap: number of turns (default: %(default)s, all)")
    parser.add_argument(
        "--subsets",
        nargs="+",
        metavar="NAME=COUNT",
        help="librispeech: subsets and their sizes (default: "
        + " ".join(f"{k}={v}" for k, v in librispeech.DEFAULT_SUBSETS.items())
        + ")",
    )
    parser.add_argument(
        "--empty",
        action="store_true",
        help="librispeech: write empty FLAC files, to time data preparation (default: 281,241 training utterances)",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Create the requested corpora and models; each folder appears only when it is complete."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        make_synthetic_data(**vars(args) | {"kinds": args.kinds or list(FOLDERS)})


def make_synthetic_data(
    out_dir: Path,
    kinds: Sequence[str],
    seconds: tuple[float, float] = (0.1, 0.3),
    seed: int = 0,
    turns: int = WAVS,
    subsets: Sequence[str] | None = None,
    empty: bool = False,
) -> None:
    """Create synthetic data of the given kinds, and print one line for each.

    Raises:
        InputError: if a kind is unknown, or lengths or subsets are invalid.
        OSError: if a folder already exists or cannot be written.
    """
    sizes = parse_subsets(subsets, empty)
    shortest, longest = seconds
    if not 0.1 <= shortest <= longest:
        raise InputError(f"--seconds {shortest} {longest}: expected 0.1 <= SHORTEST <= LONGEST")
    makers: dict[str, Callable[[Path], int]] = {
        "iemocap": lambda folder: iemocap.make_iemocap(folder, seconds, seed, turns),
        "librispeech": lambda folder: librispeech.make_librispeech(folder, sizes, None if empty else seconds, seed),
        "models": models.make_models,
    }
    for kind in kinds:
        if kind not in makers:
            raise InputError(f"unknown KIND '{kind}', expected one of: {', '.join(makers)}")
        final, unfinished = out_dir / FOLDERS[kind], out_dir / f".{kind}.unfinished"
        if final.exists():
            raise FileExistsError(f"{final} already exists; remove it or choose another folder")
        shutil.rmtree(unfinished, ignore_errors=True)
        count = makers[kind](unfinished)
        (unfinished / final.name).rename(final)
        unfinished.rmdir()
        print(f"{final}: {count:,} {'models' if kind == 'models' else 'utterances'}")


def parse_subsets(rules: Sequence[str] | None, empty: bool) -> dict[str, int]:
    """Parse ``NAME=COUNT`` rules into name -> count.

    Raises:
        InputError: if a rule is not ``NAME=COUNT`` with a positive count.
    """
    if rules is None:
        return librispeech.FULL_TRAINING if empty else librispeech.DEFAULT_SUBSETS
    sizes = {}
    for rule in rules:
        name, _, count = rule.partition("=")
        if not name or not count.isdecimal() or int(count) < 1:
            raise InputError(f"--subsets {rule}: expected NAME=COUNT, such as train-clean-5=200")
        sizes[name] = int(count)
    return sizes


if __name__ == "__main__":
    main()
