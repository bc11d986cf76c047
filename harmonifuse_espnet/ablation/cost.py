"""What a run cost: time, memory and the amount of audio, from what training and decoding leave in its folder."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from harmonifuse_espnet.common.experiment import read_epochs
from harmonifuse_espnet.common.files import read_notes, write_files
from harmonifuse_espnet.data.audio import SAMPLE_RATE
from harmonifuse_espnet.data.datadir import read_table

COST = "cost.json"


@dataclass(frozen=True)
class Cost:
    """The cost of one run; None is what is not known.

    Attributes:
        parameters: Of the model.
        trained: Those of them that training changes.
        minutes: Of training, validation included; breaks and epochs that were cut short are not.
        audio_rate: Seconds of audio that a second of training (without validation) goes through, before speed
            perturbation.
        memory: Peak of the largest process of training, in bytes; the GPU's where one was used.
        rtf: Real-time factor of decoding: the model's seconds for a second of audio.
        jobs: Runs that went on at the same time.
    """

    parameters: int | None
    trained: int | None
    minutes: float
    audio_rate: float | None
    memory: float | None
    rtf: float | None
    jobs: int | None


def remember(exp_dir: Path, memory: int, jobs: int) -> None:
    """Keep the peak memory (bytes) of a training process in ``cost.json``; the largest over all resumes counts."""
    known = read_notes(exp_dir / COST)
    _write(exp_dir, known | {"memory": max(memory, known.get("memory", 0)), "jobs": jobs})


def remember_audio(exp_dir: Path) -> None:
    """Add to ``cost.json`` how much audio the training went through, if it does not say so yet."""
    known = read_notes(exp_dir / COST)
    if "audio_seconds" not in known:
        _write(exp_dir, known | {"audio_seconds": trained_audio(exp_dir)})


def trained_audio(exp_dir: Path) -> float:
    """Seconds of audio in the batches of all trained epochs, before speed perturbation.

    Batches are a pure function of (seed, epoch), so those of the training are built again from its ``config.yaml``.
    """
    from espnet2.train.distributed_utils import DistributedOption

    from harmonifuse_espnet.train.task import HarmoniFuseTask

    args = argparse.Namespace(**yaml.safe_load((exp_dir / "config.yaml").read_text(encoding="utf-8")))
    table = next(path for path, name, _ in args.train_data_path_and_name_and_type if name == "task")
    dump = Path(table).parent
    lengths = read_table(dump.parent.parent / "raw" / dump.name / "utt2num_samples")
    factory = HarmoniFuseTask.build_iter_factory(args, DistributedOption(), "train")
    epochs = range(1, len(read_epochs(exp_dir / "checkpoint.pth")) + 1)
    members = (key for epoch in epochs for batch in factory.batches(epoch) for key in batch)
    return sum(int(lengths[key]) for key in members) / SAMPLE_RATE


def read_cost(exp_dir: Path, decode: str) -> Cost | None:
    """What a finished run cost; None where there is no training. ``decode``: the folder whose RTF counts."""
    checkpoint = exp_dir / "checkpoint.pth"
    if not checkpoint.is_file():
        return None
    epochs, known = read_epochs(checkpoint), read_notes(exp_dir / COST)
    training = [epoch["train"] for epoch in epochs]
    seconds = sum(phase["time"].total_seconds() for phase in training)
    cached = [phase["gpu_max_cached_mem_GB"] for phase in training if "gpu_max_cached_mem_GB" in phase]
    speeds = [read_notes(path) for path in sorted(exp_dir.glob(f"{decode}/*/speed.json"))]
    audio = sum(speed["audio_seconds"] for speed in speeds)
    selection = read_notes(next(exp_dir.glob("decode_*/*/selection.json"), exp_dir / "none"))
    return Cost(
        parameters=selection.get("parameters"),
        trained=selection.get("trained_parameters"),
        minutes=sum(phase["time"].total_seconds() for epoch in epochs for phase in epoch.values()) / 60,
        audio_rate=known["audio_seconds"] / seconds if "audio_seconds" in known else None,
        memory=max(cached) * 2**30 if cached else known.get("memory"),
        rtf=sum(speed["seconds"] for speed in speeds) / audio if audio else None,
        jobs=known.get("jobs"),
    )


def mean_of(values: list[float | None]) -> float | None:
    """The mean of what is known, None where nothing is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _write(exp_dir: Path, content: dict[str, Any]) -> None:
    write_files(exp_dir, {COST: json.dumps(content, indent=1) + "\n"})
