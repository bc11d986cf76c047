"""New utterances of words that a speaker said elsewhere (aligned data augmentation), since small corpora are learned by
heart.

After Lam et al. (2021, arXiv:2104.01393), who put other words into utterances; here whole utterances are made anew.
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

LONGEST = 3  # words in a row of one utterance
FEWEST = 3  # utterances of a speaker, for something new to come of it
LONGER = 1.5  # times as long as the utterance that it replaces is what a new one may be; batches are made for those
_FADE = round(0.005 * SAMPLE_RATE)  # samples over which pieces overlap


class Recombination:
    """Puts together runs of one to ``LONGEST`` words of one speaker and task, as many words as an utterance has.

    All words' times stay in memory: this is meant for small corpora. Draws from NumPy's global state.

    Args:
        tasks: The table of tasks.
        probs: Task that answers with text -> how probable it is that an utterance is replaced.
        data_dir: Dump folder with ``wav.scp``, ``text``, ``utt2spk``, ``utt2task`` and stage 5's ``ctm``.

    Raises:
        FileNotFoundError: if the ``ctm`` is missing.
        ValueError: if the ``ctm`` is not that of the transcripts, or ``probs`` has a task that is none or answers with
            a label, or what is no probability.
    """

    def __init__(self, tasks: Tasks, probs: Mapping[str, float], data_dir: Path) -> None:
        for task, prob in probs.items():
            if task not in tasks or tasks[task].answer != "text":
                fitting = [name for name, known in tasks.items() if known.answer == "text"]
                raise InputError(f"recombine names the task '{task}', but those that answer with text are {fitting}")
            if not 0 <= prob <= 1:
                raise InputError(f"recombine: task '{task}' has {prob}, expected a probability from 0 to 1")
        ctm = data_dir / CTM
        if not ctm.is_file():
            raise MissingFileError(
                f"{ctm}: no times of words, of which preprocessor_conf's recombine makes utterances; call ./run.sh "
                "--stage 5 --align true with a --pretrain_config that learns to transcribe (and --feats_type raw), or "
                "leave recombine out"
            )
        self.probs, self.words = dict(probs), read_ctm(ctm)
        self.locations, self.speakers = read_table(data_dir / "wav.scp"), read_table(data_dir / "utt2spk")
        self.said: dict[tuple[str, str], list[str]] = {}  # task and speaker -> utterances
        texts, tasks_of = read_table(data_dir / "text"), read_table(data_dir / "utt2task")
        for utterance, words in self.words.items():
            if [word.text for word in words] != texts.get(utterance, "").split():
                raise InputError(
                    f"{ctm}: the words of '{utterance}' are not those of {data_dir / 'text'}; remove the ctm and call "
                    "./run.sh --stage 5 --align true"
                )
            self.said.setdefault((tasks_of[utterance], self.speakers[utterance]), []).append(utterance)

    def __call__(
        self, speech: NDArray[np.float32], text: str, task: str, utterance: str
    ) -> tuple[NDArray[np.float32], str]:
        """Samples (N,) and transcript of a new utterance, or those that came.

        They stay with the probability 1 - p, where the speaker said too little, or not known when, and where the new
        one would be more than ``LONGER`` times as long.

        Raises:
            ValueError: if speech is not samples but features.
        """
        if task not in self.probs or np.random.random() >= self.probs[task]:
            return speech, text
        if speech.ndim != 1:
            raise InputError(
                f"{utterance}: preprocessor_conf has recombine, which puts samples together, but speech has the shape "
                f"{speech.shape}, as of features; take it out, or train with --feats_type raw"
            )
        utterances = self.said[task, self.speakers[utterance]] if utterance in self.words else []
        if len(utterances) < FEWEST:
            return speech, text
        pieces: list[NDArray[np.float32]] = []
        words: list[str] = []
        while len(words) < len(self.words[utterance]):
            source = utterances[np.random.randint(len(utterances))]
            run = self._draw(source, len(self.words[utterance]) - len(words))
            pieces.append(self._read(source, run))
            words += [word.text for word in run]
        if sum(map(len, pieces)) > LONGER * len(speech):
            return speech, text
        return crossfade(pieces), " ".join(words)

    def _draw(self, utterance: str, most: int) -> list[Word]:
        """One to ``LONGEST`` words in a row, ``most`` at most."""
        words = self.words[utterance]
        count = min(np.random.randint(LONGEST) + 1, most, len(words))
        first = np.random.randint(len(words) - count + 1)
        return words[first : first + count]

    def _read(self, utterance: str, run: Sequence[Word]) -> NDArray[np.float32]:
        samples, _ = read_audio(self.locations[utterance], SAMPLE_RATE)
        return samples[round(run[0].start * SAMPLE_RATE) : round(run[-1].end * SAMPLE_RATE)]


def crossfade(pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Pieces of sound (N_i,), each at least 10 ms, one after the other with 5 ms of each over 5 ms of the next.

    Example:
        >>> crossfade([np.ones(160, np.float32), np.ones(200, np.float32)]).shape
        (280,)
    """
    rise = np.linspace(0.0, 1.0, _FADE, dtype=np.float32)
    sound = np.zeros(sum(map(len, pieces)) - _FADE * (len(pieces) - 1), dtype=np.float32)
    at = 0
    for number, piece in enumerate(pieces):
        piece = piece.copy()
        if number > 0:
            piece[:_FADE] *= rise
        if number < len(pieces) - 1:
            piece[-_FADE:] *= rise[::-1]
        sound[at : at + len(piece)] += piece
        at += len(piece) - _FADE
    return sound
