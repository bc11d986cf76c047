"""What a training will take, before it begins: parameters, steps, memory and hours. Takes the options of stage 6.

Parameters and memory need no weights: nothing but shapes is made. Steps and the largest batch come from the shape files
of stage 5. Hours need the weights, the audio and --steps_measured. A training that does not fit into the memory is
refused with exit status 1.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from humanfriendly import format_size, format_timespan, parse_size

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import InputError, report_user_errors

if TYPE_CHECKING:
    from harmonifuse_espnet.data.iterator import TaskIterFactory
    from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
    from harmonifuse_espnet.train.memory_plan import BatchShape, Parts

LOADED_AHEAD = 2  # batches of each worker of the loader: its prefetch_factor
VALIDATION = 1 / 3  # of a training step's time: the forward pass alone


def get_parser() -> argparse.ArgumentParser:
    """The options of stage 6, and two more."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    parser = HarmoniFuseTask.get_parser()
    parser.prog, parser.description = "python -m harmonifuse_espnet.bin.plan", __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    group = parser.add_argument_group("Plan")
    group.add_argument(
        "--device_memory",
        type=parse_size,
        help="memory of each GPU, such as 80GB, or of the machine with --ngpu 0; this machine's if not given",
    )
    group.add_argument(
        "--steps_measured", type=int, default=0, help="steps of each task to run on this machine, to foretell hours"
    )
    needed = ["train_shape_file", "valid_shape_file", "train_data_path_and_name_and_type"]
    parser.set_defaults(required=["tasks", "tokenizer", *needed, "valid_data_path_and_name_and_type"])
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Print the plan; refuse what does not fit."""
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    logging.basicConfig(level=logging.WARNING)
    with report_user_errors():
        args = parse_with_config(get_parser(), cmd)
        HarmoniFuseTask.check_required_command_args(args)
        plan(args)


def plan(args: argparse.Namespace) -> None:
    """Print the plan.

    Raises:
        ValueError: if options don't fit each other, or the training does not fit into the memory.
        OSError: if a model, a tokenizer, or a file of stage 5 is missing.
    """
    import torch
    from espnet2.train.distributed_utils import DistributedOption

    from harmonifuse_espnet.train.parameters import count_parameters, format_counts
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    with torch.device("meta"):
        model = HarmoniFuseTask.build_model(args)
    print(format_counts(count_parameters(model)), end="\n\n")
    loading = copy(args)
    if not args.steps_measured:  # then no utterance is made, and when words were said need not be known yet
        loading.preprocessor_conf = {**args.preprocessor_conf, "recombine": None}
    train, valid = (
        HarmoniFuseTask.build_iter_factory(loading, DistributedOption(), mode) for mode in ("train", "valid")
    )
    print(_steps(train, args), end="\n\n")
    shape, parts = _largest(model, train, args)
    print(_memory(shape, parts, args))
    _check_fit(parts, args)
    if args.steps_measured:
        print(_hours(train, valid, args))


def _steps(factory: TaskIterFactory, args: argparse.Namespace) -> str:
    from harmonifuse_espnet.train.parameters import format_rows
    from harmonifuse_espnet.train.step_plan import steps_by_task

    rows = [("task", "utterances", "batches", "steps an epoch", "passes an epoch")]
    for task, steps in steps_by_task(factory).items():
        stream = factory.streams[task]
        utterances = sum(map(len, stream.batches))
        rows.append((task, f"{utterances:,}", f"{len(stream):,}", f"{steps:,.0f}", f"{steps / len(stream):.2f}"))
    updates = factory.steps // args.accum_grad
    ending = f"max_epoch {args.max_epoch}, each of {factory.steps:,} steps and {updates:,} updates of the weights"
    return f"{format_rows(rows)}\n{ending}"


def _largest(model: HarmoniFuseModel, factory: TaskIterFactory, args: argparse.Namespace) -> tuple[BatchShape, Parts]:
    """The batch that needs the most memory, and what it needs."""
    import torch
    from espnet2.tasks.abs_task import AbsTask

    from harmonifuse_espnet.data.recombination import LONGER
    from harmonifuse_espnet.data.tasks import build_tasks
    from harmonifuse_espnet.train.memory_plan import Precision, estimate_memory, optimizer_state_bytes
    from harmonifuse_espnet.train.step_plan import at_slowest_speed, largest_batches, largest_mixed, read_lengths
    from harmonifuse_espnet.train.task import HarmoniFuseTask, language_tokenizer

    tokenizer, tasks, ranks = language_tokenizer(args), build_tasks(args.tasks), max(args.ngpu, 1)
    (optimizer,) = AbsTask.build_optimizers.__func__(HarmoniFuseTask, args, torch.nn.Linear(64, 64))
    state_bytes, precision = optimizer_state_bytes(optimizer), Precision(args.ngpu > 0, args.use_amp)
    lengths, mixed = read_lengths(args.train_shape_file), factory.order == "mixed"
    shapes: dict[str, list[BatchShape]] = {}
    speeds, recombined = (args.preprocessor_conf.get(name) or {} for name in ("speed_perturb", "recombine"))
    for task, stream in factory.streams.items():
        longer = LONGER if task in recombined else 1.0
        at_longest = at_slowest_speed(lengths, [speed / longer for speed in speeds.get(task, [1.0])])
        prompt = max(len(tokenizer.encode(wording)) for wording in tasks[task].prompts)
        prompt += len(model.preamble_ids) + len(model.opening_ids)
        shapes[task] = largest_batches(stream, at_longest, ranks, prompt, mixed)
    flat = [shape for of_task in shapes.values() for shape in of_task]
    if mixed:
        flat = [largest_mixed({task: shape for task, (shape,) in shapes.items()}, factory.pattern)]
    plans = [(shape, estimate_memory(model, shape, precision, state_bytes, ranks)) for shape in flat]
    return max(plans, key=lambda plan: sum(plan[1].values()))


def _memory(shape: BatchShape, parts: Parts, args: argparse.Namespace) -> str:
    from harmonifuse_espnet.train.parameters import format_rows

    where = f"each of {args.ngpu} GPUs" if args.ngpu > 1 else "the GPU" if args.ngpu else "the machine"
    title = (
        f"Memory of {where} for the largest batch: {shape.utterances} utterances, {shape.length:,} samples or frames"
    )
    rows = [(part, format_size(size)) for part, size in [*parts.items(), ("together", sum(parts.values()))]]
    return f"{title}, {shape.tokens} tokens\n{format_rows(rows)}"


def _check_fit(parts: Parts, args: argparse.Namespace) -> None:
    available = args.device_memory or _own_memory(args.ngpu)
    needed = sum(parts.values())
    if available is None:
        print("No GPU here: --device_memory, such as 80GB, tells whether this fits")
    elif needed > available:
        part = max(parts, key=lambda name: parts[name])
        raise InputError(
            f"the training needs {format_size(needed)}, the memory has {format_size(available)}; the largest part is "
            f"'{part}' with {format_size(parts[part])}. Take smaller batches (batch_size, batch_bins, task_batches) "
            "with a larger accum_grad, or decoder_conf gradient_checkpointing: true"
        )


def _own_memory(ngpu: int) -> int | None:
    import torch

    if not ngpu:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def _hours(train: TaskIterFactory, valid: TaskIterFactory, args: argparse.Namespace) -> str:
    """Run steps of each task here, and foretell the training; mixed batches are taken for as many of one task each."""
    import torch

    from harmonifuse_espnet.train.parameters import format_rows
    from harmonifuse_espnet.train.step_plan import read_lengths, representative_batches, seconds_per_step, steps_by_task
    from harmonifuse_espnet.train.task import HarmoniFuseTask

    lengths, steps = read_lengths(args.train_shape_file), steps_by_task(train)
    model = HarmoniFuseTask.build_model(args).to("cuda" if args.ngpu else "cpu").train()
    (optimizer,) = HarmoniFuseTask.build_optimizers(args, model)
    rows, epoch = [("task", "a step", "an epoch")], 0.0
    for task, stream in train.streams.items():
        batches = [
            batch[:: max(args.ngpu, 1)] for batch in representative_batches(stream, lengths, args.steps_measured)
        ]
        try:
            seconds = seconds_per_step(model, optimizer, train, batches, args.use_amp)
        except torch.OutOfMemoryError as error:
            raise InputError(f"a step of task {task} does not fit into the GPU: {error}") from error
        validation = VALIDATION * len(valid.streams[task]) if task in valid.streams else 0.0
        rows.append((task, f"{seconds:.2f} s", format_timespan(seconds * steps[task], max_units=2)))
        epoch += seconds * (steps[task] + validation)
    lines = [f"\nMeasured here, {args.steps_measured} steps of each task", format_rows(rows)]
    if args.ngpu:
        lines.append(f"at most {format_size(torch.cuda.max_memory_allocated())} of the GPU")
    ahead = LOADED_AHEAD * args.num_workers
    if args.steps_measured <= ahead:
        lines.append(
            f"Loading is left out: {args.num_workers} workers load {ahead} batches ahead; --steps_measured several "
            "times as many shows the loader's pace"
        )
    whole = format_timespan(args.max_epoch * epoch, max_units=2)
    return "\n".join([*lines, f"max_epoch {args.max_epoch} with validation: about {whole}"])


if __name__ == "__main__":
    main()
