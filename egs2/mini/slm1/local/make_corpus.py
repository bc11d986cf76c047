"""Make the mini corpus: read sentences in LibriSpeech's layout and acted ones in IEMOCAP's, spoken by eSpeak NG.

The same seed and scale give the same samples. A second call makes only what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from plan import Chapter, Dialog, Sizes, plan
from speak import is_made, make_chapter, make_dialog, write_speakers

Job = tuple[Path, Chapter | Dialog, int]


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="LibriSpeech/ and IEMOCAP_full_release/ are made in it")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of sentences (default: %(default)s)")
    parser.add_argument("--nj", type=int, default=2, help="processes at a time (default: %(default)s)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Make what is missing of the corpus, with progress."""
    args = get_parser().parse_args(cmd)
    if args.nj < 1 or args.scale <= 0:
        sys.exit(f"error: --nj {args.nj} --scale {args.scale}: both must be positive")
    try:
        make_corpus(args.out_dir, args.seed, args.scale, args.nj)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def make_corpus(out_dir: Path, seed: int, scale: float, nj: int) -> None:
    """Make the corpus, or the rest of it.

    Every chapter and dialog is made by a process of its own, as eSpeak NG's voices keep a state.

    Raises:
        ValueError: if the folder holds a corpus with another seed or scale.
        OSError: if the folder cannot be written, or eSpeak NG does not start.
    """
    _claim(out_dir, {"seed": seed, "scale": scale})
    chapters, dialogs = plan(Sizes().scaled(scale), seed)
    write_speakers(out_dir, chapters)
    jobs: list[Job] = [(out_dir, part, seed) for part in (*chapters, *dialogs) if not is_made(out_dir, part)]
    print(f"{out_dir}: {len(chapters) + len(dialogs)} folders, {len(jobs)} to make", flush=True)
    utterances = 0
    with multiprocessing.get_context("fork").Pool(nj, maxtasksperchild=1) as pool:
        for done, count in enumerate(pool.imap_unordered(_run, jobs), start=1):
            utterances += count
            if done % 10 == 0 or done == len(jobs):
                print(f"{out_dir}: {done}/{len(jobs)} folders, {utterances} utterances", flush=True)


def _run(job: Job) -> int:
    out_dir, part, seed = job
    return make_chapter(out_dir, part) if isinstance(part, Chapter) else make_dialog(out_dir, part, seed)


def _claim(out_dir: Path, settings: dict[str, float]) -> None:
    """Make the folder and note its settings in it, or check those of an earlier call."""
    note = out_dir / "corpus.json"
    if note.is_file():
        made = json.loads(note.read_text(encoding="utf-8"))
        if made != settings:
            raise ValueError(
                f"{note}: made with {made}, asked for {settings}; remove {out_dir} or choose another folder"
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(f".corpus.json.{os.getpid()}")
    temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    temporary.replace(note)


if __name__ == "__main__":
    main()
