"""Create the mini corpus: read speech in LibriSpeech's layout and acted speech in IEMOCAP's, synthesised by eSpeak NG.

The same seed and scale give the same samples. A second call creates only the missing parts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

from plan import Chapter, Dialog, Sizes, plan
from speak import exists, make_chapter, make_dialog, write_speakers

from harmonifuse_espnet.common.errors import InputError, report_user_errors

Job = tuple[Path, Chapter | Dialog, int]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="folder in which LibriSpeech/ and IEMOCAP_full_release/ are created")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the number of sentences (default: %(default)s)"
    )
    parser.add_argument("--nj", type=int, default=2, help="number of processes (default: %(default)s)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Create the missing parts of the corpus."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        if args.nj < 1 or args.scale <= 0:
            raise InputError(f"--nj {args.nj} --scale {args.scale}: both must be positive")
        make_corpus(args.out_dir, args.seed, args.scale, args.nj)


def make_corpus(out_dir: Path, seed: int, scale: float, nj: int) -> None:
    """Create the chapters and dialogs that do not exist yet.

    A separate process creates each of them, because eSpeak NG's voices have a state.

    Raises:
        InputError: if the folder has a corpus with another seed or scale.
        OSError: if the folder cannot be written, or eSpeak NG does not start.
    """
    _check_settings(out_dir, {"seed": seed, "scale": scale})
    chapters, dialogs = plan(Sizes().scaled(scale), seed)
    write_speakers(out_dir, chapters)
    jobs: list[Job] = [(out_dir, part, seed) for part in (*chapters, *dialogs) if not exists(out_dir, part)]
    print(f"{out_dir}: {len(chapters) + len(dialogs)} folders, {len(jobs)} to create", flush=True)
    utterances = 0
    with multiprocessing.get_context("fork").Pool(nj, maxtasksperchild=1) as pool:
        for done, count in enumerate(pool.imap_unordered(_run, jobs), start=1):
            utterances += count
            if done % 10 == 0 or done == len(jobs):
                print(f"{out_dir}: {done}/{len(jobs)} folders, {utterances} utterances", flush=True)


def _run(job: Job) -> int:
    out_dir, part, seed = job
    return make_chapter(out_dir, part) if isinstance(part, Chapter) else make_dialog(out_dir, part, seed)


def _check_settings(out_dir: Path, settings: dict[str, float]) -> None:
    """Create the folder with a file of the settings, or compare the settings with those of an earlier call."""
    settings_file = out_dir / "corpus.json"
    if settings_file.is_file():
        earlier = json.loads(settings_file.read_text(encoding="utf-8"))
        if earlier != settings:
            raise InputError(
                f"{settings_file}: the corpus was created with {earlier}, but this call has {settings}; "
                f"remove {out_dir} or choose another folder"
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    temporary = settings_file.with_name(f".corpus.json.{os.getpid()}")
    temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    temporary.replace(settings_file)


if __name__ == "__main__":
    main()
