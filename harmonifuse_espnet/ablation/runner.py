"""Execution of an ablation: each run calls the recipe's ``run.sh``; finished stages are not repeated."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import IO

from harmonifuse_espnet.ablation import cost, peak_memory, status
from harmonifuse_espnet.ablation.spec import MODEL, Ablation, Run, decode_tag
from harmonifuse_espnet.common.errors import UserError
from harmonifuse_espnet.common.experiment import read_run, update_run

DUMP = Path("dump/raw")
LOG = "ablation.log"
PREPARED = "prepared_test_sets"


class RunFailed(UserError):
    """A failed call of ``run.sh``; the message names its stages and its log."""


class Recipe:
    """The recipe in the working directory, whose ``run.sh`` trains, decodes and scores.

    Args:
        expdir: Folder of the runs; its parent is ``--expdir`` of run.sh.
        train_args: Further options of training.
        run_args: Further options of run.sh.
        jobs: Number of parallel runs. If more than one, each has a single process with one thread.
    """

    def __init__(self, expdir: Path, train_args: str = "", run_args: Sequence[str] = (), jobs: int = 1) -> None:
        self.expdir, self.train_args, self.run_args, self.jobs = expdir, train_args, list(run_args), jobs
        self._process_groups: set[int] = set()
        self._stopped = False
        self._start_lock = threading.Lock()  # held by stop(), so that no process starts meanwhile

    def prepare(self, test_sets: Sequence[str]) -> None:
        """Run stages 1 to 5, unless they were completed for these test sets and the data still exist.

        Raises:
            RunFailed: if a stage fails.
        """
        known = read_run(self.expdir).get(PREPARED, ())
        recorded = known is None or set(test_sets) <= set(known)  # None: prepared before 0.2.0
        if recorded and all((DUMP / name / "text").is_file() for name in test_sets):
            return
        self.expdir.mkdir(parents=True, exist_ok=True)
        with (self.expdir / "prepare.log").open("a", encoding="utf-8") as log:
            print(f"preparing data with stages 1 to 5; log: {log.name}", flush=True)
            self._call_run_sh(log, "1", "5", "--test_sets", " ".join(test_sets))
        update_run(self.expdir, **{PREPARED: sorted({*(known or ()), *test_sets})})

    def check_unchanged(self, run: Run) -> None:
        """Check that a run was not started with a different training configuration.

        Raises:
            InputError: if it was; the message names the first option that differs.
        """
        status.check_unchanged(run, self._train_args(run))

    def run(self, run: Run, decode: Sequence[Path]) -> None:
        """Train, decode and score, except for finished stages; record the cost.

        Raises:
            RunFailed: if a stage fails, or another process is working on this run.
        """
        run.exp_dir.mkdir(parents=True, exist_ok=True)
        with (run.exp_dir / LOG).open("a", encoding="utf-8") as log:
            try:  # this lock is released when all processes that write to the log have ended
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFailed(f"another process is working in {run.exp_dir}; wait until it has ended") from error
            if not status.is_trained(run):
                update_run(run.exp_dir, **status.training_record(run, self._train_args(run)))
                self._train(run, log)
            cost.record_audio_seconds(run.exp_dir)
            for config in decode:
                if not status.is_decoded(run, config):
                    self._call_run_sh(log, "7", "8", *self._run_options(run), *_decode_options(run, config))
                    status.record_decoding(run, config)

    def stop(self) -> None:
        """End the processes of all runs, and refuse to start others."""
        with self._start_lock:
            self._stopped = True
            for group in list(self._process_groups):
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGTERM)

    def _train(self, run: Run, log: IO[str]) -> None:
        """Run stage 6; record its peak memory even if it fails."""
        peak = run.exp_dir / "peak_memory"
        try:
            options = ["--train_args", self._train_args(run)]
            measure = [sys.executable, peak_memory.__file__, str(peak)]
            self._call_run_sh(log, "6", "6", *self._run_options(run), *options, before=measure)
        finally:
            if peak.is_file():
                cost.record_peak_memory(run.exp_dir, int(peak.read_text(encoding="utf-8")), self.jobs)
                peak.unlink()

    def _run_options(self, run: Run) -> list[str]:
        nproc = ["--nproc", "1"] if self.jobs > 1 else []
        tag = f"{self.expdir.name}/{run.exp_dir.name}"
        return ["--tag", tag, "--train_config", str(run.variant.config), *nproc]

    def _train_args(self, run: Run) -> str:
        return f"--seed {run.seed} {self.train_args}".strip()

    def _call_run_sh(self, log: IO[str], first: str, last: str, *options: str, before: Sequence[str] = ()) -> None:
        stages = ["--stage", first, "--stop_stage", last]
        command = [*before, "./run.sh", *stages, "--expdir", str(self.expdir.parent), *options, *self.run_args]
        process = self._start(command, log)
        try:
            exit_status = process.wait()
        except BaseException:  # such as SIGTERM or Ctrl-C
            self.stop()
            raise
        self._process_groups.discard(process.pid)
        if exit_status:
            raise RunFailed(f"./run.sh {' '.join(stages)} failed with exit status {exit_status}; see {log.name}")

    def _start(self, command: Sequence[str], log: IO[str]) -> subprocess.Popen[bytes]:
        with self._start_lock:
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
            self._process_groups.add(process.pid)
            return process


def run_all(recipe: Recipe, ablation: Ablation, runs: Sequence[Run]) -> list[Run]:
    """Execute the unfinished runs, ``recipe.jobs`` at a time, and print a line for each; return the failed ones.

    A failed run does not stop the others.
    """
    unfinished = [run for run in runs if not status.is_finished(run, ablation.decode)]
    failed: list[Run] = []
    print(f"{len(runs)} runs, {len(runs) - len(unfinished)} already finished", flush=True)
    start_times: dict[Run, float] = {}
    total = 0.0

    def execute(run: Run) -> None:
        start_times[run] = time.monotonic()
        recipe.run(run, ablation.decode)

    with ThreadPoolExecutor(recipe.jobs) as pool:
        futures = {pool.submit(execute, run): run for run in unfinished}
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                run, result = futures[future], _result(future)
                failed += [run] if result != "finished" else []
                seconds = time.monotonic() - start_times[run]
                total += seconds
                left = len(unfinished) - count
                hours = total / count * left / recipe.jobs / 3600
                estimate = f"{left} runs left, about {hours:.1f} h" if left else "no runs left"
                print(f"{run.name}: {result} after {seconds / 60:.1f} minutes; {estimate}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            recipe.stop()
            raise
    return failed


def _result(future: Future[None]) -> str:
    """Return ``finished`` or the error of the run; no type of error may stop the other runs."""
    try:
        future.result()
    except Exception as error:
        return f"FAILED ({error if isinstance(error, RunFailed) else repr(error)})"
    return "finished"


def _decode_options(run: Run, decode: Path) -> list[str]:
    options = {
        "--inference_config": decode,
        "--inference_model": MODEL,
        "--inference_tag": decode_tag(decode),
        "--test_sets": " ".join(run.variant.test_sets),
        "--results": run.exp_dir / "RESULTS.md",
    }
    return [str(word) for option in options.items() for word in option]
