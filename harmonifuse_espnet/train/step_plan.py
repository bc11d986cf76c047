"""Step plan: steps by task, shapes of the largest batches, and the measured time of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.torch_utils.device_funcs import to_device

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.data.schedule import Batch, TaskBatches
from harmonifuse_espnet.model.activations import BatchShape
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel

Lengths = Mapping[str, tuple[int, int]]  # utterance -> samples (or dumped frames), target tokens


def read_lengths(shape_files: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read the lengths of speech and text of every utterance.

    Raises:
        InputError: if ``shape_files`` are not speech_shape and text_shape of stage 5.
    """
    if len(shape_files) != 2:
        raise InputError(f"--train_shape_file: expected speech_shape and text_shape of stage 5, got {shape_files}")
    speech, text = ({key: int(shape.split(",")[0]) for key, shape in read_table(path).items()} for path in shape_files)
    return {key: (speech[key], text[key]) for key in speech}


def lengths_at_slowest_speed(lengths: Lengths, factors: Sequence[float]) -> Lengths:
    """Return the lengths after the slowest speed perturbation of ``factors``; shape files of stage 5 are for speed 1.

    Example:
        >>> lengths_at_slowest_speed({"a": (900, 5)}, [0.9, 1.1])
        {'a': (1000, 5)}
    """
    return {key: (math.ceil(samples / min(factors)), tokens) for key, (samples, tokens) in lengths.items()}


def steps_by_task(factory: TaskIterFactory) -> dict[str, float]:
    """Return the number of steps of each task in an average epoch."""
    rounds = factory.steps / len(factory.pattern)
    return {task: rounds * factory.pattern.count(task) for task in factory.streams}


def largest_batches(
    stream: TaskBatches, lengths: Lengths, ranks: int, prompt: int, mixed: bool = False
) -> list[BatchShape]:
    """Return the shapes of the batches with the most speech and with the most text.

    With a ``shuffle_window`` or mixed batches, one batch can have all of the longest utterances: a single shape.

    Args:
        stream: Batches of one task.
        lengths: Lengths of all utterances.
        ranks: Number of processes that share each batch.
        prompt: Number of preamble, prompt and opening tokens.
        mixed: Whether ``task_order`` is ``mixed``.
    """
    batches = stream.batches
    if stream.shuffle_window or mixed:
        members = [key for batch in batches for key in batch]
        (speech, text), size = _max_lengths(members, lengths), max(map(len, batches))
        return [BatchShape(-(-size // ranks), speech, text, prompt)]
    shapes = [BatchShape(-(-len(batch) // ranks), *_max_lengths(batch, lengths), prompt) for batch in batches]
    by_speech = max(shapes, key=lambda shape: shape.utterances * shape.length)
    by_text = max(shapes, key=lambda shape: shape.utterances * shape.tokens)
    return [by_speech, by_text]


def largest_mixed_batch(shapes: Mapping[str, BatchShape], pattern: Sequence[str]) -> BatchShape:
    """Return the shape of the largest batch of ``task_order: mixed``.

    Args:
        shapes: Shape of each task's largest batch; a mixed batch has its share of these utterances, by ``pattern``.
        pattern: Tasks of one round of the schedule.

    Example:
        >>> shapes = {"asr": BatchShape(16, 900, 20, 5), "ser": BatchShape(10, 400, 2, 7)}
        >>> largest_mixed_batch(shapes, ["asr", "asr", "ser"])
        BatchShape(utterances=15, length=900, tokens=20, prompt=7)
    """
    shares = [math.ceil(list(pattern).count(task) * shape.utterances / len(pattern)) for task, shape in shapes.items()]
    columns = [(shape.length, shape.tokens, shape.prompt) for shape in shapes.values()]
    return BatchShape(sum(shares), *map(max, zip(*columns, strict=True)))


def _max_lengths(batch: Sequence[str], lengths: Lengths) -> tuple[int, int]:
    """Return the maximum number of samples and of tokens over the utterances of a batch."""
    return max(lengths[key][0] for key in batch), max(lengths[key][1] for key in batch)


def representative_batches(stream: TaskBatches, lengths: Lengths, count: int) -> list[Batch]:
    """Return the batch with the most speech (the warm-up), then ``count`` batches evenly spaced in the order of size.

    The latter take the time of an average batch.
    """
    by_size = sorted(stream.batches, key=lambda batch: len(batch) * _max_lengths(batch, lengths)[0])
    return [by_size[-1], *(by_size[int((number + 0.5) / count * len(by_size))] for number in range(count))]


def seconds_per_step(
    model: HarmoniFuseModel,
    optimizer: torch.optim.Optimizer,
    factory: TaskIterFactory,
    batches: Sequence[Batch],
    amp: bool,
) -> float:
    """Return the mean time of loading, forward, backward and update over ``batches`` except the first, the warm-up.

    Loading counts only while a step waits for it: workers prepare the next batches during a step and the warm-up.

    Raises:
        torch.OutOfMemoryError: if a batch does not fit into the GPU's memory.
    """
    device = next(model.parameters()).device.type
    loader = SequenceIterFactory(batches=batches, shuffle=False, **factory.loader).build_iter(1)
    ends = []
    for _, batch in loader:
        batch = to_device(batch, device)
        with torch.autocast(device, torch.bfloat16, enabled=amp and device == "cuda"):
            loss = model(**batch)[0]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return (ends[-1] - ends[0]) / (len(ends) - 1)
