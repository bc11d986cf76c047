"""Create the mini corpus: read speech in LibriSpeech's layout and acted speech in IEMOCAP's, synthesised by eSpeak NG.

The same seed and scale give the same samples. A second call creates only the missing parts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from plan import Chapter, Dialog, Sizes, plan
from speak import exists, make_chapter, make_dialog, write_speakers

from harmonifuse_espnet.common.errors import WORKER_KILLED, InputError, UserError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.common.yaml_file import read_yaml


class ProcessFailed(UserError):
    """A process failed or was killed."""


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
    with lock_folder(out_dir):
        _make_missing(out_dir, seed, scale, nj)


def _make_missing(out_dir: Path, seed: int, scale: float, nj: int) -> None:
    _check_settings(out_dir, {"seed": seed, "scale": scale})
    chapters, dialogs = plan(Sizes().scaled(scale), seed)
    write_speakers(out_dir, chapters)
    jobs = [(out_dir, part, seed) for part in (*chapters, *dialogs) if not exists(out_dir, part)]
    print(f"{out_dir}: {len(chapters) + len(dialogs)} folders, {len(jobs)} to create", flush=True)
    for done in run_processes(_run, jobs, nj):
        if done % 10 == 0 or done == len(jobs):
            print(f"{out_dir}: {done}/{len(jobs)} folders", flush=True)


def _run(out_dir: Path, part: Chapter | Dialog, seed: int) -> None:
    with report_user_errors():
        if isinstance(part, Chapter):
            make_chapter(out_dir, part)
        else:
            make_dialog(out_dir, part, seed)


def run_processes(function: Callable[..., None], jobs: Sequence[tuple[Any, ...]], nj: int) -> Iterator[int]:
    """Call a function with the arguments of each job, each in a process of its own, ``nj`` at a time.

    Yields:
        The number of finished jobs, after each.

    Raises:
        ProcessFailed: if a process failed, which has printed its error, or was killed; the others are stopped.
    """
    context, waiting = multiprocessing.get_context("fork"), iter(jobs)
    running: dict[int, multiprocessing.process.BaseProcess] = {}
    done = 0
    try:
        while done < len(jobs):
            for job in islice(waiting, nj - len(running)):
                process = context.Process(target=function, args=job)
                process.start()
                running[process.sentinel] = process
            for sentinel in multiprocessing.connection.wait(list(running)):
                process = running.pop(sentinel)  # type: ignore[call-overload]
                process.join()
                if process.exitcode:
                    raise ProcessFailed(
                        WORKER_KILLED if process.exitcode < 0 else "a process failed; see the error above"
                    )
                done += 1
                yield done
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _check_settings(out_dir: Path, settings: dict[str, float]) -> None:
    """Create the folder with a file of the settings, or compare the settings with those of an earlier call."""
    settings_file = out_dir / "corpus.json"
    if settings_file.is_file():
        earlier = read_yaml(settings_file)  # JSON is YAML
        if earlier != settings:
            raise InputError(
                f"{settings_file}: the corpus was created with {earlier}, but this call has {settings}; "
                f"remove {out_dir} or choose another folder"
            )
        return
    write_files(out_dir, {settings_file.name: json.dumps(settings) + "\n"})


if __name__ == "__main__":
    main()
