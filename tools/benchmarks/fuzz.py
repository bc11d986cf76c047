"""Damaged files for every reader of text: each must be read as a whole, or refused in one line that names the file.

Hypothesis draws texts, bytes, and the seed of a batch of files: valid ones with changed bytes, Unicode spaces, other
line ends, duplicates, odd numbers and so on. A crash is any exception but a UserError; an error message that has
several lines, control characters or more than 2,000 characters, or does not name a file; or more than 3 seconds for one
file. A drop is a result that lacks a part of the file without an error. The exit status is 1 after a crash or a drop.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import time
import traceback
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzzing.mutation import damage
from fuzzing.reader import Contents, Reader

from harmonifuse_espnet.common.errors import UserError

BATCH = 50  # files of one example of Hypothesis, which takes as long as some twenty files
MEMORY_DISK = Path("/dev/shm")
MAX_MESSAGE = 2000  # characters
MAX_SECONDS = 3.0  # process time of the reader for one file
MAX_SHOWN = 5  # problems of a reader
COLUMNS = ("inputs", "refused", "accepted", "crashes", "drops", "seconds", "slowest ms")


@dataclass
class Counts:
    """What a reader did with its inputs.

    Attributes:
        problems: Kind of a problem -> its first input, for crashes and drops.
        seconds: Time of the reader alone.
        slowest: Time of the slowest input in seconds.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0

    def row(self, name: str) -> str:
        """Return a line of the table."""
        numbers = [self.outcomes[each] for each in ("refused", "accepted", "crash", "drop")]
        figures = [*map(str, (self.outcomes.total(), *numbers)), f"{self.seconds:.1f}", f"{1000 * self.slowest:.0f}"]
        return format_row(name, figures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.add_argument("--inputs", type=int, default=100_000, help="files for each reader (default: %(default)s)")
    parser.add_argument("--readers", nargs="+", metavar="NAME", help="parts of names of readers (default: all)")
    parser.add_argument("--seed", type=int, help="seed of the files (default: a random one, which is printed)")


def run(args: argparse.Namespace) -> None:
    """Call each reader with damaged files; print a table.

    Raises:
        SystemExit: with status 1 if there is a crash or a drop.
    """
    from fuzzing.readers import READERS  # imports the whole package

    chosen = {name: each for name, each in READERS.items() if any(part in name for part in args.readers or [""])}
    if not chosen:
        raise SystemExit(f"--readers {' '.join(args.readers)}: no such reader; there are {', '.join(READERS)}")
    number = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    print(f"{args.inputs} inputs for each of {len(chosen)} readers, seed {number}")
    print(format_row("reader", COLUMNS), flush=True)
    total = Counts()
    for name, reader in chosen.items():
        counts = drive(reader, args.inputs, number)
        print(counts.row(name), flush=True)
        for kind, example in list(counts.problems.items())[:MAX_SHOWN]:
            print(f"  {kind}\n    {example}", flush=True)
        total.outcomes += counts.outcomes
        total.seconds, total.slowest = total.seconds + counts.seconds, max(total.slowest, counts.slowest)
    print(total.row("total"))
    if total.outcomes["crash"] or total.outcomes["drop"]:
        raise SystemExit(1)


def format_row(name: str, figures: tuple[str, ...] | list[str]) -> str:
    """Return a line of the table."""
    return f"{name:<40}" + "".join(f"{figure:>11}" for figure in figures)


def drive(reader: Reader, inputs: int, number: int) -> Counts:
    """Call a reader with ``inputs`` damaged files, which the seed ``number`` determines."""
    counts, home = Counts(), Path.cwd()
    memory_disk = str(MEMORY_DISK) if MEMORY_DISK.is_dir() else None
    with TemporaryDirectory(prefix="fuzz-", dir=memory_disk) as temporary:
        folder = Path(temporary)
        logging.disable(logging.INFO)  # of utterances that are left out
        try:
            os.chdir(folder)
            contents = reader.set_up(folder)
            for name, valid in contents.items():
                (folder / name).write_bytes(valid[0])
            _check_valid(reader, folder, contents)
            while counts.outcomes.total() < inputs:  # Hypothesis may stop early
                _call_with_batches(counts, reader, folder, contents, inputs, number)
                number += 1
        finally:
            os.chdir(home)
            logging.disable(logging.NOTSET)
    return counts


def _call_with_batches(
    counts: Counts, reader: Reader, folder: Path, contents: Contents, inputs: int, number: int
) -> None:
    """Call a reader until ``counts`` has ``inputs`` files."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    fragments = st.lists(st.text(min_size=1, max_size=6), max_size=4)

    @seed(number)
    @settings(
        max_examples=-(-inputs // BATCH),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, (1 << 63) - 1), fragments, st.text(max_size=60), st.binary(max_size=60))
    def call_with_batch(batch_seed: int, fragments: list[str], text: str, content: bytes) -> None:
        generator = random.Random(batch_seed)
        encoded = [each.encode() for each in fragments]
        for index in range(min(BATCH, inputs - counts.outcomes.total())):
            name = generator.choice(list(contents))
            damaged = (text.encode(), content)[index] if index < 2 else damage(generator, contents[name], encoded)
            _count(counts, reader, folder, name, damaged)
            (folder / name).write_bytes(contents[name][0])

    call_with_batch()


def _check_valid(reader: Reader, folder: Path, contents: Contents) -> None:
    """Check that the undamaged files are accepted, without which the benchmark would test nothing.

    Raises:
        ValueError: if one is not.
    """
    for name, valid in contents.items():
        for content in valid:
            (folder / name).write_bytes(content)
            found = _call(reader, folder, name, content)
            if found != ("accepted", ""):
                raise ValueError(f"{name}: the valid file {content!r} was not read: {found}")
        (folder / name).write_bytes(valid[0])


def _count(counts: Counts, reader: Reader, folder: Path, name: str, content: bytes) -> None:
    """Call the reader with one damaged file, and count the outcome."""
    (folder / name).write_bytes(content)
    start = time.process_time()
    outcome, problem = _call(reader, folder, name, content)
    seconds = time.process_time() - start
    counts.seconds += seconds
    counts.slowest = max(counts.slowest, seconds)
    if seconds > MAX_SECONDS:
        outcome, problem = "crash", f"took more than {MAX_SECONDS} s"
    counts.outcomes[outcome] += 1
    if problem:
        counts.problems.setdefault(problem[:200], f"{outcome}: {name} = {content[:600]!r}")


def _call(reader: Reader, folder: Path, name: str, content: bytes) -> tuple[str, str]:
    """Return ``refused``, ``accepted``, ``crash`` or ``drop``, and the problem."""
    try:
        result = reader.read(folder)
    except UserError as error:
        problem = _problem_of_message(str(error), folder)
        return ("crash", problem) if problem else ("refused", "")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in last if "harmonifuse_espnet" in frame.filename][-1:]
        place = f"{Path(ours[0].filename).name}:{ours[0].lineno}" if ours else ""
        return "crash", f"{type(error).__name__} at {place}: {str(error)[:100]!r}"
    if result is None:  # not up to date
        return "refused", ""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if reader.fallback is None:
            return "drop", "bytes that are not UTF-8 were accepted"
        text = content.decode(reader.fallback)
    loss = reader.find_loss(name, text.replace("\r\n", "\n").replace("\r", "\n"), result)
    return ("drop", loss) if loss else ("accepted", "")


def _problem_of_message(message: str, folder: Path) -> str:
    """Return what is wrong with an error message."""
    if len(message.splitlines()) != 1 or any(unicodedata.category(char) in ("Cc", "Cs") for char in message):
        return f"several lines or control characters: {message[:300]!r}"
    if str(folder) not in message:
        return f"does not name the file: {message[:300]!r}"
    return f"{len(message)} characters: {message[:100]!r}" if len(message) > MAX_MESSAGE else ""
