"""The batch that the data loader passes to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Targets(NamedTuple):
    """Training targets of B utterances, padded with zeros.

    Attributes:
        tokens: Token ids for the language model, with eos (B, U).
        lengths: (B,).
        ctc_tokens: Token ids for the CTC head (B, U'), empty for label tasks.
        ctc_lengths: (B,).
        label: Index of the label among those of its task (B,), -1 for text tasks.
    """

    tokens: Tensor
    lengths: Tensor
    ctc_tokens: Tensor
    ctc_lengths: Tensor
    label: Tensor


class SpeechBatch(NamedTuple):
    """B utterances of one or more tasks, padded with zeros.

    It is a named tuple, so that PyTorch can pin it and ESPnet can move it to a device.

    Attributes:
        speech: Samples (B, N), or features (B, T, features) from a dump.
        speech_lengths: (B,).
        prompt: Token ids (B, P).
        prompt_lengths: (B,).
        task: Index of each utterance's task (B,).
        rows: Task index -> rows of its utterances, ascending. The collate function computes them on the CPU, which
            avoids a synchronisation of the GPU.
        targets: None in decoding.
    """

    speech: Tensor
    speech_lengths: Tensor
    prompt: Tensor
    prompt_lengths: Tensor
    task: Tensor
    rows: dict[int, Tensor]
    targets: Targets | None = None

    def select(self, rows: Sequence[int]) -> SpeechBatch:
        """Return the utterances at ``rows``, with the padding of this batch.

        Example:
            >>> arrays = {"speech": np.zeros(4, np.float32), "prompt": np.array([7])}
            >>> examples = [(f"u{task}", arrays | {"task": np.array([task])}) for task in (0, 1, 1)]
            >>> collate(examples)[1]["batch"].select([0, 2]).rows
            {0: tensor([0]), 1: tensor([1])}
        """
        index = torch.tensor(rows, device=self.task.device)
        place = {row: number for number, row in enumerate(rows)}
        kept = {task: [place[row] for row in members.tolist() if row in place] for task, members in self.rows.items()}
        return SpeechBatch(
            speech=self.speech[index],
            speech_lengths=self.speech_lengths[index],
            prompt=self.prompt[index],
            prompt_lengths=self.prompt_lengths[index],
            task=self.task[index],
            rows={task: index.new_tensor(members) for task, members in kept.items() if members},
            targets=None if self.targets is None else Targets(*(value[index] for value in self.targets)),
        )


def collate(
    examples: Sequence[tuple[str, Mapping[str, np.ndarray]]],
) -> tuple[list[str], dict[str, SpeechBatch]]:
    """Pad preprocessed utterances, each (id, name -> array), into a batch.

    Returns:
        The utterance ids, and ``{"batch": batch}``: ESPnet's trainer calls the model with keyword arguments.

    Example:
        >>> arrays = {"speech": np.zeros(4, np.float32), "prompt": np.array([7]), "task": np.array([1])}
        >>> ids, keywords = collate([("a", arrays), ("b", arrays | {"prompt": np.array([8, 9])})])
        >>> ids, keywords["batch"].prompt.tolist(), keywords["batch"].prompt_lengths.tolist(), keywords["batch"].rows
        (['a', 'b'], [[7, 0], [8, 9]], [1, 2], {1: tensor([0, 1])})
    """
    ids, arrays = [utterance for utterance, _ in examples], [arrays for _, arrays in examples]
    tasks = [int(one["task"].item()) for one in arrays]
    targets = None
    if "text" in arrays[0]:
        label = torch.tensor([int(one["label"].item()) for one in arrays])
        targets = Targets(*_pad(arrays, "text"), *_pad(arrays, "ctc_text"), label)
    batch = SpeechBatch(
        *_pad(arrays, "speech"),
        *_pad(arrays, "prompt"),
        task=torch.tensor(tasks),
        rows={
            task: torch.tensor([row for row, other in enumerate(tasks) if other == task]) for task in sorted(set(tasks))
        },
        targets=targets,
    )
    return ids, {"batch": batch}


def _pad(arrays: Sequence[Mapping[str, np.ndarray]], name: str) -> tuple[Tensor, Tensor]:
    """Return arrays (length, ...) as one tensor (B, longest, ...), and the lengths (B,)."""
    tensors = [torch.from_numpy(np.require(one[name], requirements="W")) for one in arrays]
    return pad_sequence(tensors, batch_first=True), torch.tensor([len(tensor) for tensor in tensors])
