"""Inference in Python: transcripts and label probabilities of an utterance or a batch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.audio import SAMPLE_RATE, as_float, check_finite, read_audio, resample
from harmonifuse_espnet.data.batch import SpeechBatch, collate
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor
from harmonifuse_espnet.data.tasks import SpeechTask, build_tasks
from harmonifuse_espnet.data.tokenizer import encode_exactly
from harmonifuse_espnet.inference.generation import label_log_probs
from harmonifuse_espnet.inference.loading import load_config, load_model
from harmonifuse_espnet.inference.packed_model import find_packed_model
from harmonifuse_espnet.inference.text_search import SearchOptions, TextSearch
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.harmonifuse import EncoderOutput

MAX_LEVEL = 8.0  # of floating-point samples; above, they are taken for integers that were not scaled


def check_samples(samples: np.ndarray) -> np.ndarray:
    """Return samples (N,) in float32.

    Raises:
        InputError: if they are empty, not one-dimensional, not finite, or beyond ``MAX_LEVEL``.
    """
    if samples.ndim != 1 or not len(samples):
        raise InputError(f"speech must be samples (N,) with N > 0, got shape {samples.shape}; mix channels down")
    samples = as_float(samples, "speech")
    check_finite(samples, SAMPLE_RATE, "speech")
    peak = float(np.abs(samples).max())
    if peak > MAX_LEVEL:
        raise InputError(
            f"speech has floating-point samples up to {peak:g}, expected [-1, 1]; divide 16-bit samples by 32768"
        )
    return samples


@dataclass(frozen=True)
class DecodingResult:
    """The result of decoding one utterance.

    Attributes:
        text: Hypothesis: the transcript, or the label as in the data folders.
        label_probs: Probability of every label, for label tasks; they sum to 1.
        ctc_text: Greedy CTC transcript, for text tasks; None without a CTC head.
    """

    text: str
    label_probs: Mapping[str, float] = field(default_factory=dict)
    ctc_text: str | None = None


class Speech2Text:
    """A trained model that predicts the transcript or the label of an utterance.

    Args:
        train_config: ``config.yaml`` of the experiment, or its content. Relative paths in the file are searched for in
            the working directory, then in the recipe's folder.
        model_file: Checkpoint of the experiment.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        search: Attributes of :class:`harmonifuse_espnet.inference.text_search.SearchOptions`.

    Raises:
        MissingFileError: if a file is missing.
        InputError: if a file is damaged, would run code of its author, or does not fit the others, an option of the
            search is out of its range, or ``ctc_weight`` is above 0 and the model cannot compute CTC prefix scores.

    Example::

        model = Speech2Text.from_pretrained("exp/harmonifuse/model.zip")
        model("a.wav", task="ser").label_probs  # {'ang': 0.91, 'hap': 0.05, 'neu': 0.03, 'sad': 0.01}
    """

    def __init__(
        self,
        train_config: str | Path | Mapping[str, Any],
        model_file: str | Path,
        device: str = "cpu",
        **search: Any,
    ) -> None:
        from harmonifuse_espnet.train.build import build_ctc_tokenizer, build_tokenizer
        from harmonifuse_espnet.train.identity import check_tokenizer

        options = SearchOptions(**search)
        config = load_config(train_config)
        args = Namespace(**config)
        self.device = device
        self.tasks = build_tasks(args.tasks)
        self.tokenizer = build_tokenizer(args)
        self.ctc_tokenizer = build_ctc_tokenizer(args) or self.tokenizer
        recorded = config.get("made_from", {})
        check_tokenizer(self.tokenizer, recorded, "tokenizer", model_file)
        if args.ctc_tokenizer:
            check_tokenizer(self.ctc_tokenizer, recorded, "ctc_tokenizer", model_file)
        self.model = load_model(config, Path(model_file), device)
        self.preprocess = HarmoniFusePreprocessor(False, self.tasks, self.tokenizer, self.ctc_tokenizer)
        if options.ctc_weight > 0 and self.model.ctc is None:
            where = "the config" if isinstance(train_config, Mapping) else train_config
            raise InputError(
                f"ctc_weight is {options.ctc_weight}, but {where} has no CTC head (ctc: false, or no text task); "
                "decode with ctc_weight 0"
            )
        self.search = TextSearch(self.model, self.tokenizer, self.ctc_tokenizer, options)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Speech2Text:
        """Load a packed model, which may be a stranger's: no code of it is run, nothing is written outside the cache.

        Args:
            name: An archive that stage 9 wrote, or a folder with its files; ``user/name`` on the Hugging Face Hub; or
                the URL of an archive. See :func:`harmonifuse_espnet.inference.packed_model.find_packed_model`.
            options: Arguments of :class:`Speech2Text`.

        Raises:
            MissingFileError: if there is no such model.
            InputError: if it is no packed model, is damaged, or cannot be loaded without running its code.
            AccessError: if it cannot be downloaded, or the cache cannot be written.
        """
        packed = find_packed_model(name)
        with packed.named_errors():
            return cls(packed.read_config(), packed.model_file, **options)

    def __call__(
        self, speech: str | Path | np.ndarray | Tensor, task: str, prompt: str | None = None
    ) -> DecodingResult:
        """Decode one utterance.

        Args:
            speech: An audio file of any sampling rate, or samples (N,) at 16 kHz: floating-point numbers in [-1, 1], or
                integers, which are divided by the full scale of their type.
            task: A name from the table of tasks.
            prompt: Prompt to use instead of the task's first one.

        Raises:
            InputError: if the task is unknown, the audio is empty, has samples that are not finite or that are far
                beyond full scale, or the tokenizer cannot write the prompt.
        """
        if isinstance(speech, (str, Path)):
            speech = resample(*read_audio(str(speech), verify=True), SAMPLE_RATE)
        samples = check_samples(np.asarray(speech))
        _, keywords = collate([("speech", self.build_example("speech", samples, task, prompt))])
        return self.decode_batch(**keywords)[0]

    def build_example(
        self, utterance: str, speech: np.ndarray, task: str, prompt: str | None = None
    ) -> dict[str, np.ndarray]:
        """Preprocess speech (N,) or (T, features) for ``collate``; ``prompt`` replaces the task's first prompt."""
        example = self.preprocess(utterance, {"speech": speech, "task": task})
        if prompt is not None:
            ids = encode_exactly(self.tokenizer, prompt, "the prompt")
            example["prompt"] = np.array(ids, dtype=np.int64)
        return example

    @torch.no_grad()
    def decode_batch(self, batch: SpeechBatch) -> list[DecodingResult]:
        """Decode B utterances of one or more tasks; the results are in the order of the batch."""
        results: dict[int, DecodingResult] = {}
        for task in self.tasks.values():
            if task.index in batch.rows:
                rows = batch.rows[task.index].tolist()
                results.update(zip(rows, self._decode_task(task, batch.select(rows)), strict=True))
        return [results[row] for row in range(len(batch.task))]

    def encode(self, batch: SpeechBatch) -> tuple[EncoderOutput, Tensor]:
        """Encode a batch on the model's device; return the encoder output and the tasks (B,)."""
        from espnet2.torch_utils.device_funcs import to_device

        moved = to_device(batch, self.device)
        return self.model.encode(moved), moved.task

    def ctc_texts(self, encoded: EncoderOutput) -> list[str]:
        """Return the greedy CTC transcript of each utterance.

        Raises:
            InputError: if the model has no CTC head.
        """
        if encoded.ctc_log_probs is None:
            raise InputError("the model has no CTC head")
        paths = CTCHead.greedy(encoded.ctc_log_probs, encoded.frame_lengths)
        return [self.ctc_tokenizer.decode(path) for path in paths]

    def _decode_task(self, task: SpeechTask, batch: SpeechBatch) -> Sequence[DecodingResult]:
        encoded, index = self.encode(batch)
        if task.answer == "text":
            texts = self.search(encoded, index)
            ctc_texts = [None] * len(texts) if encoded.ctc_log_probs is None else self.ctc_texts(encoded)
            return [DecodingResult(text, ctc_text=ctc_text) for text, ctc_text in zip(texts, ctc_texts, strict=True)]
        sequences = [[*self.tokenizer.encode(words), self.tokenizer.eos_id] for words in task.labels.values()]
        probs = label_log_probs(self.model, encoded, task.index, sequences).double().exp()
        if not probs.isfinite().all():
            raise InputError(
                f"the model computes NaN for task '{task.name}'; its weights are damaged or it has diverged"
            )
        scored = [dict(zip(task.labels, row, strict=True)) for row in (probs / probs.sum(1, keepdim=True)).tolist()]
        return [DecodingResult(max(row, key=lambda label: row[label]), label_probs=row) for row in scored]
