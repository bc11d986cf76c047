"""One utterance of the data folder becomes the arrays that the model reads; a list of them becomes a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.augmentation import Augmentation
from harmonifuse_espnet.data.recombination import Recombination
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer

Example = dict[str, Any]


class HarmoniFusePreprocessor:
    """Tokenises the answer and a prompt of the utterance's task, and varies speech in training.

    Args:
        train: Whether to draw prompts at random and to vary speech (NumPy's global state, which ESPnet seeds by epoch).
        tasks: The table of tasks.
        tokenizer: Of the language model.
        ctc_tokenizer: Of the CTC head.
        speed_perturb, gain, noise, noise_prob: As in :class:`harmonifuse_espnet.data.augmentation.Augmentation`.
        recombine: Task -> how probable an utterance of its words said elsewhere is, such as ``{"asr": 0.7}``, as in
            :class:`harmonifuse_espnet.data.recombination.Recombination`.
        data_dir: The training set's dump folder, for ``recombine``.

    Raises:
        ValueError: if an option of the augmentation does not fit, or an utterance has an unknown task, an empty or
            unknown answer; the message names the option or the utterance.
    """

    def __init__(
        self,
        train: bool,
        tasks: Tasks,
        tokenizer: Tokenizer,
        ctc_tokenizer: Tokenizer | None = None,
        speed_perturb: Mapping[str, Sequence[float]] | None = None,
        gain: Mapping[str, float] | None = None,
        noise: Mapping[str, Sequence[float]] | None = None,
        noise_prob: float = 0.5,
        recombine: Mapping[str, float] | None = None,
        data_dir: str | Path = ".",
    ) -> None:
        self.train, self.tasks, self.tokenizer = train, tasks, tokenizer
        self.ctc_tokenizer = ctc_tokenizer or tokenizer
        self.augment = Augmentation(tasks, speed_perturb, gain, noise, noise_prob)
        self.recombine = Recombination(tasks, recombine, Path(data_dir)) if train and recombine else None

    def __call__(self, utterance: str, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """``speech`` (N,) or (T, features), ``text`` and ``task`` strings -> arrays, token ids as int64.

        ``label`` is the answer's index among its task's labels, -1 for a text. Without ``text``, as in decoding, the
        answer's arrays are left out.
        """
        task = self._task(utterance, str(data["task"]).strip())
        speech: np.ndarray = np.asarray(data["speech"], dtype=np.float32)
        answer = str(data["text"]) if "text" in data else None
        if self.recombine is not None and answer is not None:
            speech, answer = self.recombine(speech, answer, task.name, utterance)
        if self.train:
            speech = self.augment(speech, task.name, utterance)
        wording = task.prompts[np.random.randint(len(task.prompts)) if self.train else 0]
        arrays = {
            "speech": speech,
            "prompt": np.array(self.tokenizer.encode(wording), dtype=np.int64),
            "task": np.array([task.index], dtype=np.int64),
        }
        if answer is not None:
            words = task.words(answer, where=utterance)
            arrays["text"] = np.array([*self.tokenizer.encode(words), self.tokenizer.eos_id], dtype=np.int64)
            ctc_words = words if task.answer == "text" else ""
            arrays["ctc_text"] = np.array(self.ctc_tokenizer.encode(ctc_words), dtype=np.int64)
            label = list(task.labels).index(answer) if task.answer == "label" else -1
            arrays["label"] = np.array([label], dtype=np.int64)
        return arrays

    def _task(self, utterance: str, name: str) -> SpeechTask:
        if name not in self.tasks:
            raise InputError(
                f"{utterance}: task '{name}' is not in the table of tasks ({', '.join(self.tasks)}); "
                "correct utt2task or add an entry to conf/tasks.yaml"
            )
        return self.tasks[name]


def collate(examples: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> tuple[list[str], dict[str, Tensor]]:
    """Pad with zeros: arrays ``x`` of each utterance -> ``x`` (B, longest, ...) and ``x_lengths`` (B,).

    Example:
        >>> ids, batch = collate([("a", {"text": np.array([5])}), ("b", {"text": np.array([6, 7])})])
        >>> ids, batch["text"].tolist(), batch["text_lengths"].tolist()
        (['a', 'b'], [[5, 0], [6, 7]], [1, 2])
    """
    batch: dict[str, Tensor] = {}
    for name in examples[0][1]:
        arrays = [torch.from_numpy(np.require(arrays[name], requirements="W")) for _, arrays in examples]
        batch[name] = torch.nn.utils.rnn.pad_sequence(arrays, batch_first=True)
        batch[f"{name}_lengths"] = torch.tensor([len(array) for array in arrays])
    return [utterance for utterance, _ in examples], batch
