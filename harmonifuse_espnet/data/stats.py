"""Stage 5: lengths of speech and text for batching, and statistics of log-mel features for global normalisation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.audio import read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, read_lengths, read_table
from harmonifuse_espnet.data.provenance import MADE_FROM, check_sources, format_sources
from harmonifuse_espnet.data.speech_table import read_features
from harmonifuse_espnet.data.targets import Target, read_targets
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, load_tokenizer

LENGTH_TABLES = {"raw": "utt2num_samples", "fbank": "utt2num_frames", "ssl": "utt2num_frames"}  # by feats_type
DEFAULT_MELS = 80


def collect_stats(
    data_dir: Path,
    out_dir: Path,
    tasks: str,
    tokenizer: str,
    feats_type: str = "raw",
    n_mels: int | None = None,
    max_utterances: int = 2000,
    seed: int = 0,
) -> str:
    """Write the lengths of a folder and, with ``n_mels``, the statistics of its features; return a summary.

    Args:
        data_dir: Dump folder of stage 2, or feature folder of stage 3.
        out_dir: Folder to write.
        tasks: File of the table of tasks.
        tokenizer: Tokenizer folder of stage 4.
        feats_type: Contents of ``data_dir``: ``raw``, ``fbank`` or ``ssl``.
        n_mels: Mel bins of the features; None to write no statistics.
        max_utterances: Maximum number of utterances for the statistics, which are sampled at random.
        seed: Seed of the sample.

    Raises:
        InputError: if tables have different utterances, a task or label is unknown, or an option is out of range.
        OSError: if an input is missing, ``out_dir`` cannot be written, or another process works in it.
    """
    if max_utterances < 1:
        raise InputError(f"--max_utterances must be at least 1, got {max_utterances}")
    check_sources(data_dir, "run that stage again: ./run.sh --stage 2")
    made_from = format_sources([data_dir, tokenizer])  # before reading, in case one changes meanwhile
    targets = read_targets(data_dir, build_tasks(load_tasks(tasks)))
    loaded_tokenizer = load_tokenizer(tokenizer)
    files: dict[str, str | bytes] = {MADE_FROM: made_from, "speech_shape": speech_shape(data_dir, feats_type, targets)}
    files["text_shape"], unknown = text_shape(targets, loaded_tokenizer)
    summary = f"{out_dir}: lengths of {len(targets)} utterances"
    if unknown:
        summary += f", {len(unknown)} of them with characters unknown to the tokenizer, first '{unknown[0]}'"
    with lock_folder(out_dir):
        if n_mels is not None:
            files["feats_stats.npz"], sampled = feats_stats(data_dir, feats_type, n_mels, max_utterances, seed)
            summary += f", features of {sampled} ({n_mels} mel bins)"
        write_files(out_dir, files)
    return summary


def read_n_mels(train_config: str | None) -> int:
    """Return ``frontend_conf.n_mels`` of a training configuration, by default 80.

    Raises:
        InputError: if it is not a positive integer, or the configuration cannot be read.
    """
    if train_config is None:
        return DEFAULT_MELS
    n_mels = (read_config(train_config).get("frontend_conf") or {}).get("n_mels", DEFAULT_MELS)
    if not isinstance(n_mels, int) or n_mels < 1:
        raise InputError(f"{train_config}: frontend_conf has n_mels {n_mels!r}, expected a positive integer")
    return n_mels


def speech_shape(data_dir: Path, feats_type: str, targets: dict[str, Target]) -> str:
    """Return lines ``utterance length``, in samples (``raw``) or frames (``fbank``, ``ssl``).

    Raises:
        MissingFileError: if the folder has no table of lengths.
        InputError: if the table and ``text`` have different utterances, or a length is not a positive integer.
    """
    table = data_dir / LENGTH_TABLES[feats_type]
    if not table.is_file():
        stage = "format_audio (stage 2)" if feats_type == "raw" else "extract_features (stage 3)"
        raise MissingFileError(f"{table}: no such file; {stage} creates it")
    lengths = read_lengths(table)
    check_same_ids(data_dir, {table.name: dict.fromkeys(lengths, ""), "text": dict.fromkeys(targets, "")})
    return "".join(f"{utterance} {lengths[utterance]}\n" for utterance in targets)


def text_shape(targets: dict[str, Target], tokenizer: Tokenizer) -> tuple[str, list[str]]:
    """Count the target tokens of each utterance, including eos.

    Returns:
        Lines ``utterance tokens,vocab_size``; the utterances with characters that the tokenizer does not know.

    Raises:
        InputError: if a target has no tokens.
    """
    lines, unknown = [], []
    for utterance, target in targets.items():
        ids = tokenizer.encode(target.text)
        if not ids:
            raise InputError(f"utterance '{utterance}': {target.text!r} has no tokens in {tokenizer.name}; remove it")
        if tokenizer.unk_id in ids:
            unknown.append(utterance)
        lines.append(f"{utterance} {len(ids) + 1},{tokenizer.vocab_size}\n")
    return "".join(lines), unknown


def feats_stats(data_dir: Path, feats_type: str, n_mels: int, max_utterances: int, seed: int) -> tuple[bytes, int]:
    """Compute the statistics of a random sample of utterances for ESPnet's ``GlobalMVN``.

    Returns:
        The bytes of an ``npz`` with ``count`` (frames), ``sum`` and ``sum_square`` (n_mels,); the number of utterances.

    Raises:
        InputError: if audio is not at 16 kHz, dumped features are not ``n_mels`` wide, or ``feats_type`` is ssl.
    """
    if feats_type == "ssl":
        raise InputError("--feats_stats true is for log-mel features; leave it out with --feats_type ssl")
    scp = read_table(data_dir / ("wav.scp" if feats_type == "raw" else "feats.scp"))
    names = sorted(random.Random(seed).sample(sorted(scp), min(max_utterances, len(scp))))
    read_frames = _compute_log_mel if feats_type == "raw" else _read_dumped
    count, total, squares = 0, np.zeros(n_mels), np.zeros(n_mels)
    for frames in progress(read_frames({name: scp[name] for name in names}, n_mels), len(names), "utterances"):
        count += len(frames)
        total += frames.sum(axis=0)
        squares += np.square(frames).sum(axis=0)
    buffer = BytesIO()
    np.savez(buffer, count=count, sum=total, sum_square=squares)
    return buffer.getvalue(), len(names)


def _compute_log_mel(scp: dict[str, str], n_mels: int) -> Iterator[NDArray[np.float64]]:
    """Yield the frames (T, n_mels) of audio files, computed in one thread, which is fastest for single utterances."""
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
                    f"utterance '{utterance}': {location}: sampling rate {rate} Hz, the features need {expected} Hz; "
                    f"run format_audio (stage 2) with --sample_rate {expected}"
                )
            with torch.no_grad():
                frames, _ = log_mel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
            yield frames[0].double().numpy()
    finally:
        torch.set_num_threads(threads)


def _read_dumped(scp: dict[str, str], n_mels: int) -> Iterator[NDArray[np.float64]]:
    """Yield the frames (T, n_mels) that stage 3 dumped."""
    for utterance, location in scp.items():
        frames = read_features(location)
        if frames.shape[1] != n_mels:
            raise InputError(
                f"utterance '{utterance}': {location} has shape {frames.shape}, expected (frames, {n_mels}); "
                "give the --n_mels that stage 3 used"
            )
        yield frames.astype(np.float64)


def stats_path(feats_stats: str | Path | None) -> str | None:
    """Check that the statistics of stage 5 exist, and return their path.

    Raises:
        MissingFileError: if it does not exist.
    """
    if feats_stats is not None and not Path(feats_stats).is_file():
        raise MissingFileError(f"{feats_stats}: no such statistics file; stage 5 creates it")
    return str(feats_stats) if feats_stats is not None else None
