"""Time to prepare IEMOCAP and LibriSpeech at full size, compared with straightforward shell scripts.

The corpora are synthetic (make_synthetic_data.py): 10,039 turns, and 281,241 training utterances as empty files. Both
implementations read the same files, this package first; they must write identical wav.scp, text and utt2spk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from make_synthetic_data import make_synthetic_data

SHELL = Path(__file__).parent
TABLES = ("wav.scp", "text", "utt2spk")
FOLD = "1"
KINDS = {"iemocap": "IEMOCAP_full_release", "librispeech": "LibriSpeech"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.add_argument(
        "--work_dir", help="folder of the synthetic corpora, which are created if missing (default: a temporary folder)"
    )
    parser.add_argument("--subsets", nargs="+", metavar="NAME=COUNT", help="subsets of LibriSpeech and their sizes")


def run(args: argparse.Namespace) -> None:
    """Create missing corpora, time both implementations, compare their output, print the times."""
    with TemporaryDirectory() as temporary:
        work = Path(args.work_dir or temporary).absolute()
        for kind, folder in KINDS.items():
            if not (work / folder).exists():
                make_synthetic_data(work, [kind], subsets=args.subsets, empty=True)
        for time_corpus in (time_iemocap, time_librispeech):
            print(time_corpus(work, Path(temporary)), flush=True)


def time_iemocap(work: Path, out: Path) -> str:
    """Time IEMOCAP: four classes, one fold of ``emobox``."""
    release = work / "IEMOCAP_full_release"
    ours = _prepare("iemocap", release, out / "ours", "--protocol", "emobox", "--fold", FOLD)
    shell = _seconds("bash", SHELL / "iemocap.sh", release, out / "shell", FOLD)
    return _report("IEMOCAP", out / "ours", out / "shell", ("train", "test"), ours, shell)


def time_librispeech(work: Path, out: Path) -> str:
    """Time LibriSpeech: all subsets in the folder."""
    corpus = work / "LibriSpeech"
    ours = _prepare("librispeech", corpus, out / "ours", "--check_counts", "false")
    subsets = sorted(path.name for path in corpus.iterdir() if path.is_dir())
    names = [subset.replace("-", "_") for subset in subsets]
    shell = sum(
        _seconds("bash", SHELL / "librispeech.sh", corpus / subset, out / "shell" / name)
        for subset, name in zip(subsets, names, strict=True)
    )
    return _report("LibriSpeech", out / "ours", out / "shell", names, ours, shell)


def _prepare(corpus: str, *words: str | Path) -> float:
    return _seconds(sys.executable, "-m", "harmonifuse_espnet.bin.prepare_data", corpus, *words)


def _seconds(*command: str | Path) -> float:
    """Run a command, and return its wall-clock time in seconds.

    Raises:
        OSError: if it fails.
    """
    start = time.monotonic()
    done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise OSError(f"failed: {' '.join(map(str, command))}")
    return time.monotonic() - start


def _report(
    corpus: str, ours_dir: Path, shell_dir: Path, sets: list[str] | tuple[str, ...], ours: float, shell: float
) -> str:
    utterances = 0
    for name in sets:
        for table in TABLES:
            our_table, shell_table = (folder / name / table for folder in (ours_dir, shell_dir))
            if our_table.read_bytes() != shell_table.read_bytes():
                raise ValueError(f"{our_table} and {shell_table} differ")
        utterances += our_table.read_bytes().count(b"\n")
    return (
        f"{corpus}: {utterances:,} utterances, identical {', '.join(TABLES)}: "
        f"{ours:.2f} s, shell {shell:.2f} s, ratio {shell / ours:.1f}"
    )
