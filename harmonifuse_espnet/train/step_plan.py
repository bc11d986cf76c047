"""The steps of a training: how many of each task, how large at most, and how long they take here."""

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
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.memory_plan import BatchShape

Lengths = Mapping[str, tuple[int, int]]  # utterance -> samples (or dumped frames), tokens


def read_lengths(shape_files: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Lengths of speech and text by utterance.

    Raises:
        ValueError: if ``shape_files`` are not speech_shape and text_shape of stage 5.
    """
    if len(shape_files) != 2:
        raise InputError(f"--train_shape_file: expected speech_shape and text_shape of stage 5, got {shape_files}")
    speech, text = ({key: int(shape.split(",")[0]) for key, shape in read_table(path).items()} for path in shape_files)
    return {key: (speech[key], text[key]) for key in speech}


def at_slowest_speed(lengths: Lengths, factors: Sequence[float]) -> Lengths:
    """Lengths when all speech is played at the slowest of the speed ``factors``; stage 5 counts it unchanged.

    Example:
        >>> at_slowest_speed({"a": (900, 5)}, [0.9, 1.1])
        {'a': (1000, 5)}
    """
    return {key: (math.ceil(samples / min(factors)), tokens) for key, (samples, tokens) in lengths.items()}


def steps_by_task(factory: TaskIterFactory) -> dict[str, float]:
    """Steps of an average epoch."""
    rounds = factory.steps / len(factory.pattern)
    return {task: rounds * factory.pattern.count(task) for task in factory.streams}


def largest_batches(
    stream: TaskBatches, lengths: Lengths, ranks: int, prompt: int, mixed: bool = False
) -> list[BatchShape]:
    """The batches with the most speech, and with the most text.

    Args:
        stream: Of one task. Where it draws batches anew, the longest utterances may meet in one.
        lengths: Of all utterances.
        ranks: Processes that share each batch.
        prompt: Tokens around the speech.
        mixed: Whether utterances leave their batches for mixed ones; the longest may meet then, too.
    """
    batches = stream.batches
    if stream.redraw or mixed:
        members = [key for batch in batches for key in batch]
        (speech, text), size = _longest(members, lengths), max(map(len, batches))
        return [BatchShape(-(-size // ranks), speech, text, prompt)]
    shapes = [BatchShape(-(-len(batch) // ranks), *_longest(batch, lengths), prompt) for batch in batches]
    by_speech = max(shapes, key=lambda shape: shape.utterances * shape.length)
    by_text = max(shapes, key=lambda shape: shape.utterances * shape.tokens)
    return [by_speech, by_text]


def largest_mixed(shapes: Mapping[str, BatchShape], pattern: Sequence[str]) -> BatchShape:
    """The largest batch of ``task_order: mixed``, from each task's largest: its share of a round, the longest of all.

    Example:
        >>> shapes = {"asr": BatchShape(16, 900, 20, 5), "ser": BatchShape(10, 400, 2, 7)}
        >>> largest_mixed(shapes, ["asr", "asr", "ser"])
        BatchShape(utterances=15, length=900, tokens=20, prompt=7)
    """
    shares = [math.ceil(list(pattern).count(task) * shape.utterances / len(pattern)) for task, shape in shapes.items()]
    columns = [(shape.length, shape.tokens, shape.prompt) for shape in shapes.values()]
    return BatchShape(sum(shares), *map(max, zip(*columns, strict=True)))


def _longest(batch: Sequence[str], lengths: Lengths) -> tuple[int, int]:
    return max(lengths[key][0] for key in batch), max(lengths[key][1] for key in batch)


def representative_batches(stream: TaskBatches, lengths: Lengths, count: int) -> list[Batch]:
    """The batch with the most speech, then ``count`` others evenly over the sizes, so that their mean is typical."""
    by_size = sorted(stream.batches, key=lambda batch: len(batch) * _longest(batch, lengths)[0])
    return [by_size[-1], *(by_size[int((turn + 0.5) / count * len(by_size))] for turn in range(count))]


def seconds_per_step(
    model: HarmoniFuseModel,
    optimizer: torch.optim.Optimizer,
    factory: TaskIterFactory,
    batches: Sequence[Batch],
    amp: bool,
) -> float:
    """Mean time of loading, forward, backward and update over ``batches`` but the first, which warms up.

    Loading counts as far as the step waits for it: the loader's workers are at the next batches meanwhile, and while
    the first one warms up.

    Raises:
        torch.OutOfMemoryError: if a batch does not fit into the GPU.
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
