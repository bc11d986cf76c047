"""Augmentation by word recombination: new utterances from words of the same speaker, against over-fitting.

Based on aligned data augmentation (Lam et al., 2021, arXiv:2104.01393), which replaces some words of an utterance; here
all words are replaced. Intended for small corpora.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.data.alignment import CTM, Word, read_ctm
from harmonifuse_espnet.data.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.tasks import Tasks

MAX_RUN = 3  # consecutive words of one source utterance
MIN_UTTERANCES = 3  # per speaker and task, for any to be replaced
MAX_LENGTH_RATIO = 1.5  # new length / original length; batch sizes were chosen for the original lengths
_CROSSFADE = round(0.005 * SAMPLE_RATE)  # samples


class Recombination:
    """Replace an utterance by runs of words from utterances of the same speaker and task; the number of words is kept.

    The word boundaries of the data set stay in memory. Random numbers come from NumPy's global state.

    Args:
        tasks: Table of tasks.
        probs: Text task -> probability of replacing an utterance.
        data_dir: Dump folder with ``wav.scp``, ``text``, ``utt2spk``, ``utt2task`` and the ``ctm`` of stage 5.

    Raises:
        MissingFileError: if the ``ctm`` is missing.
        InputError: if the words of the ``ctm`` differ from ``text``, or ``probs`` has an unknown task, a label
            task or an invalid probability.
    """

    def __init__(self, tasks: Tasks, probs: Mapping[str, float], data_dir: Path) -> None:
        _check_probs(tasks, probs)
        ctm = data_dir / CTM
        if not ctm.is_file():
            raise MissingFileError(
                f"{ctm}: no word boundaries, which preprocessor_conf's recombine needs; run ./run.sh --stage 5 --align "
                "true with a --pretrain_config that trains speech recognition (and --feats_type raw), or remove "
                "recombine"
            )
        self.probs, self.words = dict(probs), read_ctm(ctm)
        self.locations, self.speakers = read_table(data_dir / "wav.scp"), read_table(data_dir / "utt2spk")
        self.utterances: dict[tuple[str, str], list[str]] = {}  # task and speaker -> utterance ids
        texts, utt2task = read_table(data_dir / "text"), read_table(data_dir / "utt2task")
        for utterance, words in self.words.items():
            if [word.text for word in words] != texts.get(utterance, "").split():
                raise InputError(
                    f"{ctm}: the words of '{utterance}' differ from {data_dir / 'text'}; remove the ctm and run "
                    "./run.sh --stage 5 --align true"
                )
            self.utterances.setdefault((utt2task[utterance], self.speakers[utterance]), []).append(utterance)

    def __call__(
        self, speech: NDArray[np.float32], text: str, task: str, utterance: str
    ) -> tuple[NDArray[np.float32], str]:
        """Return the samples (N,) and transcript of a new utterance, or the arguments unchanged.

        The utterance is kept with probability 1 - p; if it has no word boundaries; if its speaker has fewer than
        ``MIN_UTTERANCES``; or if the new utterance is more than ``MAX_LENGTH_RATIO`` times as long.

        Raises:
            InputError: if ``speech`` is features instead of samples.
        """
        if task not in self.probs or np.random.random() >= self.probs[task]:
            return speech, text
        if speech.ndim != 1:
            raise InputError(
                f"{utterance}: preprocessor_conf has recombine, which needs a waveform, but speech has the shape "
                f"{speech.shape} of features; remove it, or train with --feats_type raw"
            )
        sources = self.utterances[task, self.speakers[utterance]] if utterance in self.words else []
        if len(sources) < MIN_UTTERANCES:
            return speech, text
        pieces: list[NDArray[np.float32]] = []
        words: list[str] = []
        while len(words) < len(self.words[utterance]):
            source = sources[np.random.randint(len(sources))]
            run = self._draw_run(source, len(self.words[utterance]) - len(words))
            pieces.append(self._read(source, run))
            words += [word.text for word in run]
        if sum(map(len, pieces)) > MAX_LENGTH_RATIO * len(speech):
            return speech, text
        return crossfade(pieces), " ".join(words)

    def _draw_run(self, utterance: str, max_words: int) -> list[Word]:
        """Draw one to ``MAX_RUN`` consecutive words, at most ``max_words``."""
        words = self.words[utterance]
        count = min(np.random.randint(MAX_RUN) + 1, max_words, len(words))
        first = np.random.randint(len(words) - count + 1)
        return words[first : first + count]

    def _read(self, utterance: str, run: Sequence[Word]) -> NDArray[np.float32]:
        samples, _ = read_audio(self.locations[utterance], SAMPLE_RATE)
        return samples[round(run[0].start * SAMPLE_RATE) : round(run[-1].end * SAMPLE_RATE)]


def _check_probs(tasks: Tasks, probs: Mapping[str, float]) -> None:
    for task, prob in probs.items():
        if task not in tasks or tasks[task].answer != "text":
            valid = [name for name, known in tasks.items() if known.answer == "text"]
            raise InputError(f"recombine has the task '{task}', but the tasks with text targets are {valid}")
        if not 0 <= prob <= 1:
            raise InputError(f"recombine: task '{task}' has {prob}, expected a probability from 0 to 1")


def crossfade(pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Concatenate pieces of audio (N_i,), each at least 10 ms long, with linear crossfades of 5 ms.

    Example:
        >>> crossfade([np.ones(160, np.float32), np.ones(200, np.float32)]).shape
        (280,)
    """
    rise = np.linspace(0.0, 1.0, _CROSSFADE, dtype=np.float32)
    audio = np.zeros(sum(map(len, pieces)) - _CROSSFADE * (len(pieces) - 1), dtype=np.float32)
    start = 0
    for number, piece in enumerate(pieces):
        piece = piece.copy()
        if number > 0:
            piece[:_CROSSFADE] *= rise
        if number < len(pieces) - 1:
            piece[-_CROSSFADE:] *= rise[::-1]
        audio[start : start + len(piece)] += piece
        start += len(piece) - _CROSSFADE
    return audio
