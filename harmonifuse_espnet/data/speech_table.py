"""Audio or features of the utterances of a table, for ESPnet's dataset; an error names the utterance and the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import kaldiio
import numpy as np

from harmonifuse_espnet.common.errors import InputError, MissingFileError, UserError
from harmonifuse_espnet.data.audio import SAMPLE_RATE, audio_file, read_audio
from harmonifuse_espnet.data.datadir import read_table


class SpeechTable(Mapping[str, np.ndarray]):
    """Utterance id -> samples (N,) in [-1, 1] at 16 kHz, or features (T, width); read when asked for.

    Args:
        path: ``wav.scp`` or ``feats.scp``.
        file_type: ESPnet's type: ``sound``, or ``kaldi_ark`` for archives of audio or features.

    Raises:
        InputError: if the table is invalid or empty; from ``table[utterance]``, if the audio or the features cannot be
            used.
        MissingFileError: from ``table[utterance]``, if the file does not exist.
    """

    def __init__(self, path: str, file_type: str) -> None:
        self.path, self.file_type = path, file_type
        self.locations = read_table(path)
        if not self.locations:
            raise InputError(f"{path}: no utterances; prepare the folder again")

    def __getitem__(self, utterance: str) -> np.ndarray:
        """Read the audio or features of an utterance."""
        location = self.locations[utterance]
        try:
            entry = _load(location) if self.file_type == "kaldi_ark" else None
            if entry is None or isinstance(entry, tuple):
                return read_audio(location, SAMPLE_RATE)[0]
            return _check_features(entry, location)
        except (UserError, OSError) as error:
            kind = type(error) if isinstance(error, UserError) else InputError
            raise kind(f"{self.path}: utterance '{utterance}': {error}") from error

    def __iter__(self) -> Iterator[str]:
        """Iterate over the utterance ids."""
        return iter(self.locations)

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.locations)


def read_features(location: str) -> np.ndarray:
    """Read a matrix of features (T, width) from a Kaldi archive.

    Raises:
        MissingFileError: if the archive does not exist.
        InputError: if the entry is damaged or no matrix, is empty, or has values that are not finite.
    """
    return _check_features(_load(location), location)


def _check_features(features: Any, location: str) -> np.ndarray:
    if not isinstance(features, np.ndarray) or features.ndim != 2 or not features.size:
        shape = features.shape if isinstance(features, np.ndarray) else "of audio"
        raise InputError(f"{location}: an entry {shape}, expected features (frames, width); run stage 3 again")
    bad = ~np.isfinite(features)
    if bad.any():
        raise InputError(
            f"{location}: {np.count_nonzero(bad)} of {bad.size} values are NaN or infinite, the first in frame "
            f"{int(bad.any(axis=1).argmax())}; run stage 3 again"
        )
    return features


def _load(location: str) -> Any:
    path = audio_file(location)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such archive; run stage 3 again, or stage 2 for audio")
    try:
        return kaldiio.load_mat(location)
    except Exception as error:  # kaldiio raises any exception on damaged data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{location}: not an entry of a Kaldi archive, or damaged ({reason}); restore it") from error
