"""A trained model as a Python object: audio in, an answer out, for one file or a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.data.audio import SAMPLE_RATE, read_audio, resample
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor, collate
from harmonifuse_espnet.data.tasks import SpeechTask, build_tasks
from harmonifuse_espnet.data.tokenizer import load_tokenizer
from harmonifuse_espnet.inference.ctc_alignment import MAX_WER, ctc_word_spans, word_tokens
from harmonifuse_espnet.inference.ctc_prefix import CTCPrefixScores
from harmonifuse_espnet.inference.ctc_spelling import spell_tokens
from harmonifuse_espnet.inference.generation import RepetitionLimit, generate_text, label_log_probs
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.harmonifuse import EncoderOutput

# Arguments of Hugging Face's generate -> the option here that decides about them.
DECIDED = {
    "num_beams": "beam_size",
    "length_penalty": "length_penalty",
    "max_length": "max_length_ratio",
    "max_new_tokens": "max_length_ratio",
}


@dataclass(frozen=True)
class Answer:
    """What the model says about one utterance.

    Attributes:
        text: The transcript, or the label as the data write it.
        label_probs: Probability of every label, for tasks that answer with a label; they sum to 1.
        ctc_text: What the CTC head alone encoded, for tasks that answer with text.
    """

    text: str
    label_probs: Mapping[str, float] = field(default_factory=dict)
    ctc_text: str | None = None


class Speech2Text:
    """Ask a trained model.

    Args:
        train_config: ``config.yaml`` of the experiment.
        model_file: Its checkpoint.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        beam_size: Hypotheses that the search for a text keeps; 1 is greedy search.
        ctc_weight: Share of the CTC prefix scores in the search, from 0, the language model alone, to 1.
        length_penalty: A hypothesis has the sum of its tokens' scores over their number to this power: 0 leaves the
            sum, 1 takes the mean, which favours longer answers.
        max_length_ratio: The most tokens of an answer for each connector frame.
        generate: More arguments of Hugging Face's ``generate``, such as ``{"repetition_penalty": 1.2}``.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if an option of the search is out of its range, or CTC is to take part and cannot.

    Example::

        model = Speech2Text.from_pretrained("exp/harmonifuse/model.zip")
        model("a.wav", task="ser").label_probs  # {'ang': 0.91, 'hap': 0.05, 'neu': 0.03, 'sad': 0.01}
    """

    def __init__(
        self,
        train_config: str | Path,
        model_file: str | Path,
        device: str = "cpu",
        beam_size: int = 1,
        ctc_weight: float = 0.0,
        length_penalty: float = 0.0,
        max_length_ratio: float = 1.0,
        generate: Mapping[str, Any] | None = None,
    ) -> None:
        from harmonifuse_espnet.train.task import HarmoniFuseTask, language_tokenizer

        check_search(beam_size, ctc_weight, max_length_ratio, generate or {})
        for path in (train_config, model_file):
            if not Path(path).is_file():
                raise MissingFileError(f"{path}: no such file; stage 6 (training) makes it")
        model, args = HarmoniFuseTask.build_model_from_file(train_config, model_file, device)
        self.model, self.device = model.eval(), device
        self.tasks = build_tasks(args.tasks)
        self.tokenizer = language_tokenizer(args)
        self.ctc_tokenizer = load_tokenizer(args.ctc_tokenizer) if args.ctc_tokenizer else self.tokenizer
        self.preprocess = HarmoniFusePreprocessor(False, self.tasks, self.tokenizer, self.ctc_tokenizer)
        self.max_length_ratio, self.generate = max_length_ratio, {**(generate or {}), "num_beams": beam_size}
        if beam_size > 1:
            self.generate["length_penalty"] = float(length_penalty)
        self.ctc_weight, self.spelling = ctc_weight, None
        if ctc_weight > 0 and self.model.ctc is None:
            raise InputError(
                f"ctc_weight is {ctc_weight}, but {train_config} has no CTC head (ctc: false, or no task answers with "
                "text); decode with ctc_weight 0"
            )
        if ctc_weight > 0:
            self.spelling = spell_tokens(self.tokenizer, self.ctc_tokenizer)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Speech2Text:
        """Load a packed model: a zip that stage 9 made, or a name on the Hugging Face Hub.

        Args:
            name: Path of the archive, or what ``espnet_model_zoo`` takes (a Hub repository, a URL).
            options: Of :class:`Speech2Text`.
        """
        from espnet_model_zoo.downloader import ModelDownloader

        files = ModelDownloader().download_and_unpack(str(name))
        return cls(files["train_config"], files["model_file"], **options)

    def __call__(self, speech: str | Path | np.ndarray | Tensor, task: str, prompt: str | None = None) -> Answer:
        """Answer for one utterance.

        Args:
            speech: An audio file of any sampling rate, or samples (N,) at 16 kHz in [-1, 1].
            task: A name from the table of tasks.
            prompt: A wording of one's own in the place of the task's first one.

        Raises:
            ValueError: if the task is unknown or the audio is empty.
        """
        if isinstance(speech, (str, Path)):
            speech = resample(*read_audio(str(speech)), SAMPLE_RATE)
        samples = np.asarray(speech, dtype=np.float32)
        if samples.ndim != 1 or not len(samples):
            raise InputError(f"speech must be samples (N,) with N > 0, got shape {samples.shape}")
        return self.answer_batch(collate([("speech", self.example("speech", samples, task, prompt))])[1])[0]

    def example(
        self, utterance: str, speech: np.ndarray, task: str, prompt: str | None = None
    ) -> dict[str, np.ndarray]:
        """What ``collate`` takes: speech (N,) or (T, features), asked in a wording or in the task's first one."""
        example = self.preprocess(utterance, {"speech": speech, "task": task})
        if prompt is not None:
            example["prompt"] = np.array(self.tokenizer.encode(prompt), dtype=np.int64)
        return example

    @torch.no_grad()
    def answer_batch(self, batch: Mapping[str, Tensor]) -> list[Answer]:
        """Answers to a collated batch: ``speech`` (B, N), ``prompt`` (B, P), ``task`` (B, 1), mixed or not."""
        indices = batch["task"].view(-1)
        answers: dict[int, Answer] = {}
        for task in self.tasks.values():
            rows = torch.nonzero(indices == task.index)[:, 0]
            if len(rows):
                answers.update(zip(rows.tolist(), self._answer_task(task, batch, rows), strict=True))
        return [answers[row] for row in range(len(indices))]

    def _answer_task(self, task: SpeechTask, batch: Mapping[str, Tensor], rows: Tensor) -> list[Answer]:
        encoded, index = self._hear({name: value[rows] for name, value in batch.items()})
        if task.answer == "text":
            return self._texts(encoded, index)
        sequences = [[*self.tokenizer.encode(words), self.tokenizer.eos_id] for words in task.labels.values()]
        probs = label_log_probs(self.model, encoded, index, sequences).double().exp()
        scored = [dict(zip(task.labels, row, strict=True)) for row in (probs / probs.sum(1, keepdim=True)).tolist()]
        return [Answer(max(row, key=lambda label: row[label]), label_probs=row) for row in scored]

    def _hear(self, batch: Mapping[str, Tensor]) -> tuple[EncoderOutput, Tensor]:
        """What the language model is about to read, and the tasks (B,), of a collated batch."""
        part = {name: value.to(self.device) for name, value in batch.items()}
        names = ("speech", "speech_lengths", "prompt", "prompt_lengths")
        index = part["task"].view(-1)
        return self.model.encode(*[part[name] for name in names], index), index

    @torch.no_grad()
    def word_spans(
        self, speech: Sequence[np.ndarray], tasks: Sequence[str], texts: Sequence[str]
    ) -> list[list[tuple[float, float]] | None]:
        """Where CTC hears each word of known transcripts.

        Args:
            speech: Samples (N,) of each utterance, at 16 kHz.
            tasks: Its task.
            texts: What is said.

        Returns:
            For each utterance the middle of the first and of the last frame of each word, in seconds; None where there
            are too few frames for the transcript, or CTC by itself hears more than ``MAX_WER`` of it wrong.

        Raises:
            ValueError: if the model has no CTC head.
        """
        examples = [("speech", self.example("speech", *one)) for one in zip(speech, tasks, strict=True)]
        encoded, _ = self._hear(collate(examples)[1])
        if encoded.ctc_log_probs is None:
            raise InputError("the model has no CTC head, which tells where words are; align with another model")
        found: list[list[tuple[float, float]] | None] = []
        alone = self._ctc_texts(encoded.ctc_log_probs, encoded.frame_lengths)
        for row, (samples, text) in enumerate(zip(speech, texts, strict=True)):
            log_probs = encoded.ctc_log_probs[row, : encoded.frame_lengths[row]]
            seconds = len(samples) / SAMPLE_RATE / len(log_probs)
            try:
                peaks = ctc_word_spans(log_probs, word_tokens(text.split(), self.ctc_tokenizer.encode))
            except ValueError:
                peaks = []
            believed = peaks and jiwer.wer(text, alone[row]) <= MAX_WER
            times = [((first + 0.5) * seconds, (last + 0.5) * seconds) for first, last in peaks]
            found.append(times if believed else None)
        return found

    def _texts(self, encoded: EncoderOutput, task: Tensor) -> list[Answer]:
        eos, guide = self.tokenizer.eos_id, [self._guide(encoded)]
        tokens = generate_text(
            self.model, encoded, task, eos, self.max_length_ratio, logits_processor=guide, **self.generate
        )
        texts = [self.tokenizer.decode(row) for row in tokens]
        if encoded.ctc_log_probs is None:
            return [Answer(text) for text in texts]
        alone = self._ctc_texts(encoded.ctc_log_probs, encoded.frame_lengths)
        return [Answer(text, ctc_text=ctc_text) for text, ctc_text in zip(texts, alone, strict=True)]

    def _ctc_texts(self, log_probs: Tensor, lengths: Tensor) -> list[str]:
        """What CTC hears by itself, for its log_probs (B, T, W + 1)."""
        return [self.ctc_tokenizer.decode(path) for path in CTCHead.greedy(log_probs, lengths)]

    def _guide(self, encoded: EncoderOutput) -> LogitsProcessor:
        """What the search listens to beside the language model."""
        if self.spelling is None or encoded.ctc_log_probs is None:
            return RepetitionLimit()
        return CTCPrefixScores(
            encoded.ctc_log_probs, encoded.frame_lengths, self.spelling, self.tokenizer.eos_id, self.ctc_weight
        )

    def parameters(self) -> dict[str, int]:
        """How many ``parameters`` the model has, and how many of them are trained (``trained_parameters``)."""
        sizes = [(value.numel(), value.requires_grad) for value in self.model.parameters()]
        return {
            "parameters": sum(size for size, _ in sizes),
            "trained_parameters": sum(size for size, trained in sizes if trained),
        }

    @torch.no_grad()
    def selection(self, task: str) -> dict[str, Any]:
        """What a task's wordings select: weights of the encoder's layers (L) and of the language model's (M).

        ``layer_weights`` and ``fusion_weights`` are the first prompt's; ``wordings`` has both for each wording, trained
        and held out; ``held_out`` lists the latter.
        """
        chosen = self.tasks[task]
        wordings = {prompt: self._weights(chosen, prompt) for prompt in (*chosen.prompts, *chosen.held_out_prompts)}
        return {**wordings[chosen.prompts[0]], "wordings": wordings, "held_out": list(chosen.held_out_prompts)}

    def _weights(self, task: SpeechTask, prompt: str) -> dict[str, list[float]]:
        tokens = torch.tensor([self.tokenizer.encode(prompt)], device=self.device)
        _, prompt_summary = self.model.read_prompt(tokens, torch.tensor([tokens.size(1)], device=self.device))
        index = torch.tensor([task.index], device=self.device)
        return {
            "layer_weights": self.model.layer_weights(prompt_summary, index)[0].tolist(),
            "fusion_weights": self.model.fusion.weights(prompt_summary, index)[0].tolist(),
        }

    @torch.no_grad()
    def gate(self, example: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The component gate on one preprocessed utterance: (T, C) in 0 to 1; None for a model without one."""
        one = {name: value.to(self.device) for name, value in collate([("speech", example)])[1].items()}
        task, (_, prompt_summary) = one["task"][:, 0], self.model.read_prompt(one["prompt"], one["prompt_lengths"])
        selected, _ = self.model.select_layers(one["speech"], one["speech_lengths"], prompt_summary, task)
        gate = self.model.gate.gate(selected, prompt_summary, task)
        return None if gate is None else gate[0].float().cpu().numpy()


def check_search(beam_size: int, ctc_weight: float, max_length_ratio: float, generate: Mapping[str, Any]) -> None:
    """Check the options of the search for a text.

    Raises:
        ValueError: if one is out of its range, or ``generate`` has what another option decides.
    """
    if not isinstance(beam_size, int) or beam_size < 1:
        raise InputError(f"beam_size is {beam_size!r}, but must be a whole number of 1 (greedy search) or more")
    if not 0 <= ctc_weight <= 1:
        raise InputError(f"ctc_weight is {ctc_weight}, but must be from 0 (the language model alone) to 1 (CTC alone)")
    if max_length_ratio <= 0:
        raise InputError(f"max_length_ratio is {max_length_ratio}, but must be above 0 tokens for each frame")
    for name in generate:
        if name in DECIDED:
            raise InputError(f"generate has {name}: {generate[name]}; give {DECIDED[name]} in its place")
