"""Cost of a run: time, memory and amount of audio, as training and decoding record them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from harmonifuse_espnet.common.experiment import Experiment, read_run, training_seconds, update_run
from harmonifuse_espnet.data.audio import SAMPLE_RATE
from harmonifuse_espnet.data.datadir import read_table


@dataclass(frozen=True)
class Cost:
    """The cost of one run; values that were not recorded are None.

    Attributes:
        parameters: Number of parameters.
        trained: Number of trained parameters.
        minutes: Duration of training with validation, without interruptions and incomplete epochs.
        audio_rate: Seconds of audio (before speed perturbation) per second of training (without validation).
        memory: Peak memory in bytes: of the GPU if one was used, else of the largest training process.
        rtf: Real-time factor of decoding: seconds of the model per second of audio.
        jobs: Number of runs that shared the machine.
    """

    parameters: int | None
    trained: int | None
    minutes: float
    audio_rate: float | None
    memory: float | None
    rtf: float | None
    jobs: int | None


def record_peak_memory(exp_dir: Path, memory: int, jobs: int) -> None:
    """Record the peak memory (bytes) of a training process; the maximum over all resumed calls is kept."""
    known = read_run(exp_dir).get("peak_memory_bytes", 0)
    update_run(exp_dir, peak_memory_bytes=max(memory, known), jobs=jobs)


def record_audio_seconds(exp_dir: Path) -> None:
    """Record the seconds of audio in the training batches, unless this is done already."""
    if "audio_seconds" not in read_run(exp_dir):
        update_run(exp_dir, audio_seconds=training_audio_seconds(exp_dir))


def training_audio_seconds(exp_dir: Path) -> float:
    """Compute the seconds of audio in the batches of all training epochs, before speed perturbation.

    The batches are a pure function of seed and epoch, so they are built again from ``config.yaml``.
    """
    from espnet2.train.distributed_utils import DistributedOption

    from harmonifuse_espnet.train.task import HarmoniFuseTask

    experiment = Experiment(exp_dir)
    args = argparse.Namespace(**experiment.read_config())
    table = next(path for path, name, _ in args.train_data_path_and_name_and_type if name == "task")
    dump = Path(table).parent
    lengths = read_table(dump.parent.parent / "raw" / dump.name / "utt2num_samples")
    factory = HarmoniFuseTask.build_iter_factory(args, DistributedOption(), "train")
    epochs = range(1, len(experiment.epochs()) + 1)
    members = (key for epoch in epochs for batch in factory.batches(epoch) for key in batch)
    return sum(int(lengths[key]) for key in members) / SAMPLE_RATE


def read_cost(exp_dir: Path, tag: str) -> Cost | None:
    """Read the cost of a run; None if it is not trained. The RTF is that of the folders ``decode_<tag>``."""
    experiment, run = Experiment(exp_dir), read_run(exp_dir)
    if not experiment.checkpoint.is_file():
        return None
    counts = experiment.parameter_counts()
    decoded = (read_run(folder.dir) for folder in experiment.decoded() if folder.tag == tag)
    speeds = [record for record in decoded if "audio_seconds" in record]
    audio = sum(speed["audio_seconds"] for speed in speeds)
    epochs = experiment.epochs()
    training = [epoch["train"] for epoch in epochs]
    seconds = sum(phase["time"].total_seconds() for phase in training)
    cached = [phase["gpu_max_cached_mem_GB"] for phase in training if "gpu_max_cached_mem_GB" in phase]
    return Cost(
        parameters=counts.get("parameters"),
        trained=counts.get("trained_parameters"),
        minutes=training_seconds(epochs) / 60,
        audio_rate=run["audio_seconds"] / seconds if "audio_seconds" in run else None,
        memory=max(cached) * 2**30 if cached else run.get("peak_memory_bytes"),
        rtf=sum(speed["seconds"] for speed in speeds) / audio if audio else None,
        jobs=run.get("jobs"),
    )


def mean_of(values: list[float | None]) -> float | None:
    """Return the mean of the known values; None if all are None.

    Example:
        >>> mean_of([None, 1.0, 3.0])
        2.0
    """
    known = [value for value in values if value is not None]
    return mean(known) if known else None
