"""Statistics of a data folder: lengths for batching, and sums of log-mel features for global normalisation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import kaldiio
import numpy as np
from numpy.typing import NDArray

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.audio import read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, read_table
from harmonifuse_espnet.data.targets import Target
from harmonifuse_espnet.data.tokenizer import Tokenizer

LENGTHS = {"raw": "utt2num_samples", "fbank": "utt2num_frames", "ssl": "utt2num_frames"}


def speech_shape(data_dir: Path, feats_type: str, answers: dict[str, Target]) -> str:
    """Lines ``utt length``, in samples (``raw``) or frames (``fbank``, ``ssl``), for the utterances that have answers.

    Raises:
        FileNotFoundError: if the folder has no table of lengths.
        ValueError: if the table has other utterances than ``text``, or a length is not a positive number.
    """
    table = data_dir / LENGTHS[feats_type]
    if not table.is_file():
        stage = "format_audio (stage 2)" if feats_type == "raw" else "extract_features (stage 3)"
        raise MissingFileError(f"{table}: no such file; {stage} makes it")
    lengths = read_table(table)
    check_same_ids(data_dir, {table.name: lengths, "text": dict.fromkeys(answers, "")})
    for utterance, length in lengths.items():
        if not length.isdecimal() or int(length) == 0:
            raise InputError(f"{table}: utterance '{utterance}' has length '{length}', expected a number above 0")
    return "".join(f"{utterance} {lengths[utterance]}\n" for utterance in answers)


def text_shape(answers: dict[str, Target], tokenizer: Tokenizer) -> str:
    """Lines ``utt tokens,vocab_size``: tokens of the words that the language model has to say, and eos.

    Raises:
        ValueError: if an answer has no tokens.
    """
    lines = []
    for utterance, answer in answers.items():
        ids = tokenizer.encode(answer.words)
        if not ids:
            raise InputError(f"utterance '{utterance}': {answer.words!r} has no tokens in {tokenizer.name}; drop it")
        lines.append(f"{utterance} {len(ids) + 1},{tokenizer.vocab_size}\n")
    return "".join(lines)


def feats_stats(data_dir: Path, feats_type: str, n_mels: int, max_utterances: int, seed: int) -> tuple[bytes, int]:
    """Sums over the frames of a random sample of utterances, as ESPnet's ``GlobalMVN`` reads them.

    Returns:
        The bytes of an ``npz`` with ``count`` (frames), ``sum`` and ``sum_square`` (n_mels,); the number of utterances.

    Raises:
        ValueError: if the audio is not at 16 kHz, dumped features are not ``n_mels`` wide, or ``feats_type`` is ssl.
    """
    if feats_type == "ssl":
        raise InputError("--feats_stats true is for log-mel features; --feats_type ssl needs none, leave it false")
    scp = read_table(data_dir / ("wav.scp" if feats_type == "raw" else "feats.scp"))
    names = sorted(random.Random(seed).sample(sorted(scp), min(max_utterances, len(scp))))
    frames_of = _log_mel if feats_type == "raw" else _dumped
    count, total, squares = 0, np.zeros(n_mels), np.zeros(n_mels)
    for frames in progress(frames_of({name: scp[name] for name in names}, n_mels), len(names), "utterances"):
        count += len(frames)
        total += frames.sum(axis=0)
        squares += np.square(frames).sum(axis=0)
    buffer = BytesIO()
    np.savez(buffer, count=count, sum=total, sum_square=squares)
    return buffer.getvalue(), len(names)


def _log_mel(scp: dict[str, str], n_mels: int) -> Iterator[NDArray[np.float64]]:
    """Frames (T, n_mels) of audio files; one thread is fastest for one utterance on a busy machine."""
    import torch

    from harmonifuse_espnet.data.logmel import LogMel

    log_mel = LogMel(n_mels)
    expected = log_mel.mel.sample_rate
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for utterance, location in scp.items():
            samples, rate = read_audio(location)
            if rate != expected:
                raise InputError(
                    f"utterance '{utterance}': {location} is at {rate} Hz, the features are made for {expected} Hz; "
                    f"run format_audio (stage 2) with --sample_rate {expected}"
                )
            with torch.no_grad():
                frames, _ = log_mel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
            yield frames[0].double().numpy()
    finally:
        torch.set_num_threads(threads)


def _dumped(scp: dict[str, str], n_mels: int) -> Iterator[NDArray[np.float64]]:
    """Frames (T, n_mels) as stage 3 dumped them."""
    for utterance, location in scp.items():
        frames = kaldiio.load_mat(location)
        if frames.ndim != 2 or frames.shape[1] != n_mels:
            raise InputError(
                f"utterance '{utterance}': {location} has shape {frames.shape}, expected (frames, {n_mels}); "
                "give the --n_mels that stage 3 used"
            )
        yield frames.astype(np.float64)


def stats_path(feats_stats: str | Path | None) -> str | None:
    """Check that the statistics file of stage 5 is there.

    Raises:
        FileNotFoundError: if it is not.
    """
    if feats_stats is not None and not Path(feats_stats).is_file():
        raise MissingFileError(f"{feats_stats}: no such statistics file; stage 5 makes it")
    return str(feats_stats) if feats_stats is not None else None
