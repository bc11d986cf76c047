"""Training plan: parameters, steps by task, memory estimate of the largest batch, and training time."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from copy import copy

import torch
from espnet2.tasks.abs_task import AbsTask
from espnet2.train.distributed_utils import DistributedOption
from humanfriendly import format_size, format_timespan

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.data.recombination import MAX_LENGTH_RATIO
from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.model.activations import BatchShape, Precision
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.build import build_tokenizer
from harmonifuse_espnet.train.memory_plan import MemoryByPart, estimate_memory, optimizer_state_bytes
from harmonifuse_espnet.train.parameters import count_parameters, format_counts, format_rows
from harmonifuse_espnet.train.step_plan import (
    largest_batches,
    largest_mixed_batch,
    lengths_at_slowest_speed,
    read_lengths,
    representative_batches,
    seconds_per_step,
    steps_by_task,
)
from harmonifuse_espnet.train.task import HarmoniFuseTask

PREFETCH = 2  # batches that each worker loads ahead: PyTorch's prefetch_factor
VALIDATION_RATIO = 1 / 3  # time of a validation step (forward pass only) / time of a training step


def plan_training(args: argparse.Namespace) -> Iterator[str]:
    """Yield the sections of the plan: parameters, steps, memory, and the training time if ``steps_measured`` is not 0.

    Args:
        args: Training options, with ``device_memory`` (bytes or None) and ``steps_measured`` (number of steps of each
            task to time on this machine).

    Raises:
        InputError: if options contradict each other, or (after the memory section) training does not fit into memory.
        MissingFileError: if a model, a tokenizer or a file of stage 5 does not exist.
    """
    with torch.device("meta"):
        model = HarmoniFuseTask.build_model(args)
    yield format_counts(count_parameters(model))
    train, valid = _build_iterators(args)
    yield format_steps(train, args.max_epoch, args.accum_grad)
    batch, parts = largest_batch_memory(model, train, args)
    yield format_memory(batch, parts, args.ngpu)
    available = args.device_memory or local_memory(args.ngpu)
    if available is None:
        yield "No GPU on this machine: set --device_memory, such as 80GB, to check whether training fits into memory"
    else:
        check_fit(parts, available)
    if args.steps_measured:
        yield estimate_training_time(train, valid, args)


def _build_iterators(args: argparse.Namespace) -> tuple[TaskIterFactory, TaskIterFactory]:
    args = copy(args)
    if not args.steps_measured:  # no utterance is loaded, so the word boundaries (ctm) need not exist
        args.preprocessor_conf = {**args.preprocessor_conf, "recombine": None}
    train, valid = (HarmoniFuseTask.build_iter_factory(args, DistributedOption(), mode) for mode in ("train", "valid"))
    return train, valid


def format_steps(factory: TaskIterFactory, max_epoch: int, accum_grad: int) -> str:
    """Return the table of steps and of passes over the data by task."""
    rows = [("task", "utterances", "batches", "steps per epoch", "passes per epoch")]
    for task, steps in steps_by_task(factory).items():
        stream = factory.streams[task]
        utterances = sum(map(len, stream.batches))
        rows.append((task, f"{utterances:,}", f"{len(stream):,}", f"{steps:,.0f}", f"{steps / len(stream):.2f}"))
    updates = factory.steps // accum_grad
    summary = f"max_epoch {max_epoch}; an epoch has {factory.steps:,} steps and {updates:,} optimizer updates"
    return f"{format_rows(rows)}\n{summary}"


def largest_batch_memory(
    model: HarmoniFuseModel, factory: TaskIterFactory, args: argparse.Namespace
) -> tuple[BatchShape, MemoryByPart]:
    """Return the batch with the largest memory estimate, and that estimate by part."""
    ranks, precision = max(args.ngpu, 1), Precision(args.ngpu > 0, args.use_amp)
    state_bytes = optimizer_state_bytes(_build_optimizer(args, torch.nn.Linear(64, 64)))
    estimates = [
        (batch, estimate_memory(model, batch, precision, state_bytes, ranks))
        for batch in _largest_batches(model, factory, args)
    ]
    return max(estimates, key=lambda estimate: sum(estimate[1].values()))


def _build_optimizer(args: argparse.Namespace, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Build ESPnet's optimizer for any model, without the parameter groups of ``--optim_groups``."""
    (optimizer,) = AbsTask.build_optimizers.__func__(HarmoniFuseTask, args, model)
    return optimizer


def _largest_batches(model: HarmoniFuseModel, factory: TaskIterFactory, args: argparse.Namespace) -> list[BatchShape]:
    """Return the shapes of the batches that may need the most memory, at the slowest speed perturbation and the longest
    word recombination."""
    tokenizer, tasks, ranks = build_tokenizer(args), build_tasks(args.tasks), max(args.ngpu, 1)
    lengths, mixed = read_lengths(args.train_shape_file), factory.order == "mixed"
    speeds, recombined = (args.preprocessor_conf.get(name) or {} for name in ("speed_perturb", "recombine"))
    shapes: dict[str, list[BatchShape]] = {}
    for task, stream in factory.streams.items():
        longer = MAX_LENGTH_RATIO if task in recombined else 1.0
        longest = lengths_at_slowest_speed(lengths, [speed / longer for speed in speeds.get(task, [1.0])])
        prompt = max(len(tokenizer.encode(text)) for text in tasks[task].prompts)
        prompt += len(model.preamble_ids) + len(model.opening_ids)
        shapes[task] = largest_batches(stream, longest, ranks, prompt, mixed)
    if mixed:
        return [largest_mixed_batch({task: shape for task, (shape,) in shapes.items()}, factory.pattern)]
    return [shape for of_task in shapes.values() for shape in of_task]


def format_memory(batch: BatchShape, parts: MemoryByPart, ngpu: int) -> str:
    where = f"each of {ngpu} GPUs" if ngpu > 1 else "the GPU" if ngpu else "the machine"
    title = (
        f"Memory of {where} for the largest batch: {batch.utterances} utterances, {batch.length:,} samples or frames"
    )
    rows = [(part, format_size(size)) for part, size in [*parts.items(), ("total", sum(parts.values()))]]
    return f"{title}, {batch.tokens} tokens\n{format_rows(rows)}"


def check_fit(parts: MemoryByPart, available: int) -> None:
    """Check that training fits into memory.

    Raises:
        InputError: if the estimate is above ``available`` bytes; the message names the largest part.
    """
    needed = sum(parts.values())
    if needed > available:
        part = max(parts, key=lambda name: parts[name])
        raise InputError(
            f"training needs about {format_size(needed)} of memory, but only {format_size(available)} are available; "
            f"the largest part is '{part}' with {format_size(parts[part])}. Use smaller batches (batch_size, "
            "batch_bins, task_batches) with a larger accum_grad, or decoder_conf gradient_checkpointing: true"
        )


def local_memory(ngpu: int) -> int | None:
    """Return the bytes of memory of this machine, or of its GPU if ``ngpu`` is not 0; None without a GPU."""
    if not ngpu:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def estimate_training_time(train: TaskIterFactory, valid: TaskIterFactory, args: argparse.Namespace) -> str:
    """Time ``steps_measured`` steps of each task on this machine, and estimate the training time from them.

    A mixed batch is assumed to take the mean time of its tasks' batches.

    Raises:
        InputError: if a step does not fit into the GPU's memory.
    """
    lengths, steps = read_lengths(args.train_shape_file), steps_by_task(train)
    model = HarmoniFuseTask.build_model(args).to("cuda" if args.ngpu else "cpu").train()
    (optimizer,) = HarmoniFuseTask.build_optimizers(args, model)
    rows, epoch = [("task", "time per step", "time per epoch")], 0.0
    for task, stream in train.streams.items():
        batches = representative_batches(stream, lengths, args.steps_measured)
        of_rank = [batch[:: max(args.ngpu, 1)] for batch in batches]
        try:
            seconds = seconds_per_step(model, optimizer, train, of_rank, args.use_amp)
        except torch.OutOfMemoryError as error:
            raise InputError(f"a step of task {task} does not fit into the GPU's memory: {error}") from error
        validation = VALIDATION_RATIO * len(valid.streams[task]) if task in valid.streams else 0.0
        rows.append((task, f"{seconds:.2f} s", format_timespan(seconds * steps[task], max_units=2)))
        epoch += seconds * (steps[task] + validation)
    lines = [f"Time measured on this machine with {args.steps_measured} steps of each task", format_rows(rows)]
    if args.ngpu:
        lines.append(f"peak GPU memory: {format_size(torch.cuda.max_memory_allocated())}")
    ahead = PREFETCH * args.num_workers
    if args.steps_measured <= ahead:
        lines.append(
            f"The time does not include loading: {args.num_workers} workers load {ahead} batches ahead; use a "
            "--steps_measured of several times that number"
        )
    total = format_timespan(args.max_epoch * epoch, max_units=2)
    return "\n".join([*lines, f"all {args.max_epoch} epochs, validation included: about {total}"])
