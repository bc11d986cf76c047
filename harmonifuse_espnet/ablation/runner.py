"""Carrying out an ablation: every run is a call of the recipe's own ``run.sh``, and what is done is not done again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import yaml

from harmonifuse_espnet.ablation import cost, peak_memory
from harmonifuse_espnet.ablation.spec import MODEL, Ablation, Run, decode_tag
from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, UserError
from harmonifuse_espnet.common.experiment import read_epochs
from harmonifuse_espnet.common.files import read_notes, write_files

DUMP = Path("dump/raw")
MADE_WITH = "made_with.json"
LOG = "ablation.log"
PREPARED = "prepared"


class RunFailed(UserError):
    """A call of ``run.sh`` that failed; says which, and where its output is."""


class Recipe:
    """The recipe in the working directory, whose ``run.sh`` trains, decodes and scores.

    Args:
        expdir: Folder of the runs; its parent is run.sh's --expdir.
        train_args: More options of training.
        run_args: More options of run.sh.
        jobs: Runs at a time. With several, each has one process of one thread.
    """

    def __init__(self, expdir: Path, train_args: str = "", run_args: Sequence[str] = (), jobs: int = 1) -> None:
        self.expdir, self.train_args, self.run_args, self.jobs = expdir, train_args, list(run_args), jobs
        self._live: set[int] = set()
        self._stopped = False
        self._starting = threading.Lock()  # no run starts between being told to stop and ending all

    def prepare(self, test_sets: Sequence[str]) -> None:
        """Run stages 1 to 5 unless they have been run to their end, and every test set's audio is there.

        Raises:
            RunFailed: if a stage fails.
        """
        prepared = self.expdir / PREPARED
        if prepared.is_file() and all((DUMP / name / "text").is_file() for name in test_sets):
            return
        self.expdir.mkdir(parents=True, exist_ok=True)
        with (self.expdir / "prepare.log").open("a", encoding="utf-8") as log:
            print(f"stages 1 to 5 first: {log.name}", flush=True)
            self._call(log, "1", "5", "--test_sets", " ".join(test_sets))
        prepared.touch()

    def check_unchanged(self, run: Run) -> None:
        """Refuse a run that was begun with another configuration than the present one.

        Raises:
            ValueError: if it was; names the first option that differs.
        """
        known = read_notes(run.exp_dir / MADE_WITH).get("train")
        if known is None and (run.exp_dir / "checkpoint.pth").is_file():
            raise InputError(f"{run.exp_dir} was not trained by an ablation; remove it, or choose another --expdir")
        changed = next(_changes(known, self._made_with(run)), None) if known is not None else None
        if changed:
            raise InputError(
                f"{run.exp_dir} was trained with another configuration: {changed} ({run.variant.config}); remove that "
                "folder to train again, restore the configuration, or choose another --expdir"
            )

    def is_done(self, run: Run, decode: Sequence[Path]) -> bool:
        """Whether a run is trained, and decoded and scored with every decoding configuration."""
        return is_trained(run) and all(is_decoded(run, config) for config in decode)

    def carry_out(self, run: Run, decode: Sequence[Path]) -> None:
        """Train, decode and score, as far as it is not done; note what it cost.

        Raises:
            RunFailed: if a stage fails, or another process carries out this run.
        """
        run.exp_dir.mkdir(parents=True, exist_ok=True)
        with (run.exp_dir / LOG).open("a", encoding="utf-8") as log:
            try:  # held until all processes that write into the log have ended
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFailed(f"another process is at work in {run.exp_dir}") from error
            if not is_trained(run):
                _note(run, {"train": self._made_with(run)})
                self._train(run, log)
            cost.remember_audio(run.exp_dir)
            for config in decode:
                if not is_decoded(run, config):
                    self._call(log, "7", "8", *self._folder(run), *_decode_options(run, config))
                    made = _plain(read_config(config))
                    _note(run, {f"{decode_tag(config)}/{name}": made for name in run.variant.test_sets})

    def stop(self) -> None:
        """End the processes of all runs, and start no others."""
        with self._starting:
            self._stopped = True
            for group in list(self._live):
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGTERM)

    def _train(self, run: Run, log: IO[str]) -> None:
        """Stage 6; its peak memory is kept whether it succeeds or not."""
        peak = run.exp_dir / "peak_memory"
        try:
            options = ["--train_args", self._train_args(run)]
            measure = [sys.executable, peak_memory.__file__, str(peak)]
            self._call(log, "6", "6", *self._folder(run), *options, before=measure)
        finally:
            if peak.is_file():
                cost.remember(run.exp_dir, int(peak.read_text(encoding="utf-8")), self.jobs)
                peak.unlink()

    def _folder(self, run: Run) -> list[str]:
        nproc = ["--nproc", "1"] if self.jobs > 1 else []
        tag = f"{self.expdir.name}/{run.exp_dir.name}"
        return ["--tag", tag, "--train_config", str(run.variant.config), *nproc]

    def _call(self, log: IO[str], first: str, last: str, *options: str, before: Sequence[str] = ()) -> None:
        stages = ["--stage", first, "--stop_stage", last]
        command = [*before, "./run.sh", *stages, "--expdir", str(self.expdir.parent), *options, *self.run_args]
        with self._starting:
            if self._stopped:
                raise RunFailed("stopped")
            process = subprocess.Popen(
                command,
                env=os.environ | ({"OMP_NUM_THREADS": "1"} if self.jobs > 1 else {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._live.add(process.pid)
        try:
            status = process.wait()
        except BaseException:  # this process is told to end
            self.stop()
            raise
        self._live.discard(process.pid)
        if status:
            raise RunFailed(f"./run.sh {' '.join(stages)} ended with status {status}; see {log.name}")

    def _train_args(self, run: Run) -> str:
        return f"--seed {run.seed} {self.train_args}".strip()

    def _made_with(self, run: Run) -> dict[str, Any]:
        return {"config": _plain(read_config(run.variant.config)), "train_args": self._train_args(run)}


def run_all(recipe: Recipe, ablation: Ablation, runs: Sequence[Run]) -> list[Run]:
    """Carry out what is not done, ``recipe.jobs`` at a time, with a line on the terminal for each; returns the failed.

    A run that fails does not keep the others from running.
    """
    to_do, failed = [run for run in runs if not recipe.is_done(run, ablation.decode)], []
    print(f"{len(runs)} runs, {len(runs) - len(to_do)} of them done before", flush=True)
    started, spent = {}, 0.0

    def carry_out(run: Run) -> None:
        started[run] = time.monotonic()
        recipe.carry_out(run, ablation.decode)

    with ThreadPoolExecutor(recipe.jobs) as pool:
        futures = {pool.submit(carry_out, run): run for run in to_do}
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                run, result = futures[future], "done"
                took = time.monotonic() - started[run]
                spent += took
                try:
                    future.result()
                except Exception as error:  # whatever it is, the other runs go on
                    failed.append(run)
                    result = f"FAILED ({error if isinstance(error, RunFailed) else repr(error)})"
                left = len(to_do) - count
                rest = f"{left} left, about {spent / count * left / recipe.jobs / 3600:.1f} h" if left else "none left"
                print(f"{run.name}: {result} after {took / 60:.1f} minutes; {rest}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            recipe.stop()
            raise
    return failed


def is_trained(run: Run) -> bool:
    """Whether the training has reached ``max_epoch`` and left the model that decodes."""
    checkpoint, config = run.exp_dir / "checkpoint.pth", run.exp_dir / "config.yaml"
    if not all(path.is_file() for path in (checkpoint, config, run.exp_dir / MODEL)):
        return False
    max_epoch = yaml.load(config.read_text(encoding="utf-8"), yaml.CSafeLoader)["max_epoch"]
    return len(read_epochs(checkpoint)) >= max_epoch


def is_decoded(run: Run, decode: Path) -> bool:
    """Whether every test set is answered."""
    return all(is_scored(run, decode, name) for name in run.variant.test_sets)


def is_scored(run: Run, decode: Path, test_set: str) -> bool:
    """Whether a test set's scores are newer than the model and made with a decoding configuration as it is now."""
    made_with = read_notes(run.exp_dir / MADE_WITH).get(f"{decode_tag(decode)}/{test_set}")
    model, score = run.exp_dir / MODEL, run.answers(decode, test_set) / "score.json"
    return (
        made_with == _plain(read_config(decode))
        and model.is_file()
        and score.is_file()
        and score.stat().st_mtime >= model.stat().st_mtime
    )


def _decode_options(run: Run, decode: Path) -> list[str]:
    options = {
        "--inference_config": decode,
        "--inference_model": MODEL,
        "--inference_tag": decode_tag(decode),
        "--test_sets": " ".join(run.variant.test_sets),
        "--results": run.exp_dir / "RESULTS.md",
    }
    return [str(word) for option in options.items() for word in option]


def _changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """What differs between two nested mappings: ``optim_conf.lr was 0.002, is now 0.001``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            path = f"{name}.{key}" if name else str(key)
            yield from _changes(old.get(key, "not set"), new.get(key, "not set"), path)
    elif old != new:
        yield f"{name.removeprefix('config.')} was {old}, is now {new}"


def _note(run: Run, made_with: Mapping[str, Any]) -> None:
    content = {**read_notes(run.exp_dir / MADE_WITH), **made_with}
    write_files(run.exp_dir, {MADE_WITH: json.dumps(content, indent=1) + "\n"})


def _plain(config: Mapping[str, Any]) -> Any:
    """A configuration as JSON gives it back."""
    return json.loads(json.dumps(config))
