"""Forced alignment of a dump folder: writes the word boundaries of its transcripts as a Kaldi ``ctm``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.common.resuming import file_fingerprint, longest_first, process_resumably
from harmonifuse_espnet.common.text import read_lines
from harmonifuse_espnet.data.alignment import (
    COMMENT,
    CTM,
    AlignmentState,
    Word,
    aligned_words,
    format_ctm,
    refine_boundaries,
)
from harmonifuse_espnet.data.audio import SAMPLE_RATE, audio_stat, read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, read_lengths, read_table
from harmonifuse_espnet.data.provenance import check_sources

if TYPE_CHECKING:
    from harmonifuse_espnet.inference.speech2text import Speech2Text

PARTIAL = "ctm.partial.jsonl"
TABLES = ("wav.scp", "text", "utt2task", "utt2num_samples")

Tables = dict[str, dict[str, str]]  # file name -> utterance -> value


def align_dump(train_config: str, model_file: str, data_dir: Path, batch_size: int, device: str) -> str:
    """Write the ``ctm`` of a dump folder for its text tasks; return a summary.

    An existing ``ctm`` of the same model and the same tables is kept. An interrupted call is resumed.

    Args:
        train_config: ``config.yaml`` of a model with a CTC head.
        model_file: Checkpoint of the model.
        data_dir: Dump folder of stage 2.
        batch_size: Number of utterances in a batch; the result does not depend on it.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: if the tables have different utterances or a task that the model does not have, the model has no CTC
            head, or no utterance can be aligned.
        MissingFileError: if a file is missing.
        AccessError: if the folder cannot be written, or another process works in it.
    """
    check_sources(data_dir, "run that stage again: ./run.sh --stage 2")
    tables = {name: read_table(data_dir / name) for name in TABLES}
    check_same_ids(data_dir, tables)
    settings = {"model": file_fingerprint(model_file), "data": _digest(tables)}
    with lock_folder(data_dir):
        if read_settings(data_dir / CTM) == settings:
            (data_dir / PARTIAL).unlink(missing_ok=True)  # of a call that was killed at its end
            return f"{data_dir / CTM}: up to date"
        from harmonifuse_espnet.inference.speech2text import Speech2Text

        model = Speech2Text(train_config, model_file, device)
        texts = _transcripts(model, train_config, data_dir, tables)
        return _align(model, data_dir, tables, texts, batch_size, settings)


def _align(
    model: Speech2Text,
    data_dir: Path,
    tables: Tables,
    texts: Mapping[str, str],
    batch_size: int,
    settings: Mapping[str, Any],
) -> str:
    """Write the ``ctm``; return a summary."""
    peaks = _find_ctc_peaks(model, data_dir / PARTIAL, settings, tables, texts, batch_size)
    aligned = _find_word_boundaries(texts, peaks, tables["wav.scp"])
    if not aligned:
        raise InputError(
            f"{data_dir}: none of the {len(texts)} transcripts could be aligned; use a model with a lower word "
            "error rate on this speech"
        )
    write_files(data_dir, {CTM: f"{COMMENT} {json.dumps(settings)}\n{format_ctm(aligned)}"})
    (data_dir / PARTIAL).unlink()
    words = sum(map(len, aligned.values()))
    return f"{data_dir / CTM}: {words} words of {len(aligned)} utterances; {len(texts) - len(aligned)} not aligned"


def _transcripts(model: Speech2Text, train_config: str, data_dir: Path, tables: Tables) -> dict[str, str]:
    unknown = sorted(set(tables["utt2task"].values()) - set(model.tasks))
    if unknown:
        raise InputError(
            f"{data_dir / 'utt2task'}: task '{unknown[0]}' is not in the table of tasks of {train_config} "
            f"({', '.join(model.tasks)}); remove that experiment and train it again with stage 5"
        )
    utt2task = tables["utt2task"]
    return {key: text for key, text in tables["text"].items() if model.tasks[utt2task[key]].answer == "text"}


def _find_ctc_peaks(
    model: Speech2Text,
    partial: Path,
    settings: Mapping[str, Any],
    tables: Tables,
    texts: Mapping[str, str],
    batch_size: int,
) -> dict[str, Any]:
    """Return the times of each word's CTC peaks in seconds, or None for an utterance that cannot be aligned.

    Completed batches are kept in ``partial``.
    """
    from harmonifuse_espnet.inference import ctc_alignment

    def align_batch(batch: Sequence[str]) -> list[dict[str, Any]]:
        speech = [read_audio(tables["wav.scp"][key], SAMPLE_RATE)[0] for key in batch]
        tasks = [tables["utt2task"][key] for key in batch]
        times = ctc_alignment.ctc_peak_times(model, speech, tasks, [texts[key] for key in batch])
        return [{"peaks": peaks} for peaks in times]

    lengths = read_lengths(partial.parent / "utt2num_samples")
    by_length = longest_first({key: lengths[key] for key in texts})
    done = process_resumably(partial, settings, by_length, batch_size, align_batch, {"peaks"})
    return {key: entry["peaks"] for key, entry in done.items()}


def _find_word_boundaries(
    texts: Mapping[str, str], peaks: Mapping[str, Any], locations: Mapping[str, str]
) -> dict[str, list[Word]]:
    """Return the word boundaries of each utterance; utterances with a word that is too short are left out."""
    found = [key for key in sorted(texts) if peaks[key]]
    states = {
        key: AlignmentState.from_peaks(texts[key].split(), peaks[key], read_audio(locations[key], SAMPLE_RATE)[0])
        for key in progress(found, len(found), "utterances")
    }
    refine_boundaries(list(states.values()))
    return {key: words for key, state in states.items() if (words := aligned_words(state))}


def _digest(tables: Mapping[str, Mapping[str, str]]) -> str:
    """Return a hash of the tables' content, and of the size and time of each audio file."""
    stats = {key: audio_stat(location) for key, location in tables["wav.scp"].items()}
    return hashlib.sha256(json.dumps([tables, stats], sort_keys=True).encode()).hexdigest()


def read_settings(ctm: Path) -> Any:
    """Return the settings in the first line of a ``ctm``; None if it is missing or written by another program."""
    if not ctm.is_file():
        return None
    _, first = next(read_lines(ctm), (0, ""))
    try:
        return json.loads(first.removeprefix(COMMENT)) if first.startswith(f"{COMMENT} {{") else None
    except (ValueError, RecursionError):
        return None
