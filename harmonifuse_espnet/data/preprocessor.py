"""Convert an utterance of a data folder to the arrays of a training or decoding example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.augmentation import Augmentation
from harmonifuse_espnet.data.recombination import Recombination
from harmonifuse_espnet.data.tasks import SpeechTask, Tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, encode_exactly


class HarmoniFusePreprocessor:
    """Tokenize the target and a prompt of the utterance's task; in training, draw the prompt and augment the speech.

    Args:
        train: Whether to draw prompts at random and to augment speech. Random numbers come from NumPy's global state,
            which ESPnet seeds by epoch.
        tasks: Table of tasks.
        tokenizer: Tokenizer of the language model.
        ctc_tokenizer: Tokenizer of the CTC head; None to use ``tokenizer``.
        speed_perturb, gain, noise, noise_prob: As in :class:`harmonifuse_espnet.data.augmentation.Augmentation`.
        recombine: Task -> probability of augmentation by word recombination, such as ``{"asr": 0.7}``; see
            :class:`harmonifuse_espnet.data.recombination.Recombination`.
        data_dir: Dump folder of the training set, for ``recombine``.

    Raises:
        InputError: if an augmentation option is invalid, the tokenizer cannot write a prompt or label, or an utterance
            has an unknown task, an unknown label or an empty target.
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
        self.prompt_ids = {
            prompt: encode_exactly(tokenizer, prompt, f"a prompt of task '{task.name}'")
            for task in tasks.values()
            for prompt in task.prompts
        }
        for task in tasks.values():
            for label, text in task.labels.items():
                encode_exactly(tokenizer, text, f"label '{label}' of task '{task.name}'")
        self.augment = Augmentation(tasks, speed_perturb, gain, noise, noise_prob)
        self.recombine = Recombination(tasks, recombine, Path(data_dir)) if train and recombine else None

    def __call__(self, utterance: str, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of an utterance.

        Args:
            utterance: Utterance id, for error messages.
            data: ``speech``, samples (N,) or features (T, features); ``task``; in training, ``text``, the target.

        Returns:
            ``speech`` in float32, and in int64: ``prompt`` token ids, ``task`` index (1,) and, if there is a target,
            ``text`` token ids with eos, ``ctc_text`` token ids (empty for label tasks) and ``label`` index (1,), -1 for
            text tasks.
        """
        task = self._task(utterance, str(data["task"]).strip())
        speech: np.ndarray = np.asarray(data["speech"], dtype=np.float32)
        target = str(data["text"]) if "text" in data else None
        if self.recombine is not None and target is not None:
            speech, target = self.recombine(speech, target, task.name, utterance)
        if self.train:
            speech = self.augment(speech, task.name, utterance)
        wording = task.prompts[np.random.randint(len(task.prompts)) if self.train else 0]
        arrays = {
            "speech": speech,
            "prompt": np.array(self.prompt_ids[wording], dtype=np.int64),
            "task": np.array([task.index], dtype=np.int64),
        }
        if target is not None:
            arrays.update(self._target_arrays(utterance, task, target))
        return arrays

    def _target_arrays(self, utterance: str, task: SpeechTask, target: str) -> dict[str, np.ndarray]:
        text = task.target_text(target, where=utterance)
        ctc_text = text if task.answer == "text" else ""
        label = list(task.labels).index(target) if task.answer == "label" else -1
        return {
            "text": np.array([*self.tokenizer.encode(text), self.tokenizer.eos_id], dtype=np.int64),
            "ctc_text": np.array(self.ctc_tokenizer.encode(ctc_text), dtype=np.int64),
            "label": np.array([label], dtype=np.int64),
        }

    def _task(self, utterance: str, name: str) -> SpeechTask:
        if name not in self.tasks:
            raise InputError(
                f"{utterance}: task '{name}' is not in the table of tasks ({', '.join(self.tasks)}); "
                "correct utt2task or add an entry to conf/tasks.yaml"
            )
        return self.tasks[name]
