"""Speech varied in training so that it still has the same answer: speed, white noise, gain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.audio import resample


class Augmentation:
    """Draws how to vary an utterance from NumPy's global state, which ESPnet seeds by epoch.

    A task that an option does not name stays as it is. Masks over time and frequency are the frontend's.

    Args:
        tasks: Names of all tasks.
        speed_perturb: Task -> speed factors to draw from, such as ``{"asr": [0.9, 1.0, 1.1]}`` (Ko et al., 2015).
        gain: Task -> decibels g: the level changes by -g to g. Samples may pass 1: nothing is clipped.
        noise: Task -> [lowest, highest] signal-to-noise ratio in decibels, of white noise.
        noise_prob: How probable noise is.

    Raises:
        ValueError: if an option names an unknown task, or its value is out of range.
    """

    def __init__(
        self,
        tasks: Collection[str],
        speed_perturb: Mapping[str, Sequence[float]] | None = None,
        gain: Mapping[str, float] | None = None,
        noise: Mapping[str, Sequence[float]] | None = None,
        noise_prob: float = 0.5,
    ) -> None:
        self.speed_perturb, self.gain, self.noise = dict(speed_perturb or {}), dict(gain or {}), dict(noise or {})
        self.noise_prob = noise_prob
        options: dict[str, dict[str, Any]] = {
            "speed_perturb": self.speed_perturb, "gain": self.gain, "noise": self.noise
        }  # fmt: skip
        self.given = [option for option, values in options.items() if values]
        for option, values in options.items():
            unknown = set(values) - set(tasks)
            if unknown:
                raise InputError(f"{option} names unknown tasks {sorted(unknown)}; the table has {sorted(tasks)}")
        for task, decibels in self.gain.items():
            if decibels < 0:
                raise InputError(f"gain: task '{task}' has {decibels}, expected decibels of 0 or more")
        for task, ratios in self.noise.items():
            if len(ratios) != 2 or ratios[0] > ratios[1]:
                raise InputError(f"noise: task '{task}' has {ratios}, expected [lowest, highest] decibels")
        if not 0 <= noise_prob <= 1:
            raise InputError(f"noise_prob is {noise_prob}, expected a probability from 0 to 1")

    def __call__(self, speech: np.ndarray, task: str, utterance: str) -> np.ndarray:
        """Samples (N,) -> (about N / speed factor,).

        Raises:
            ValueError: if any option is given, for whatever task, and speech is not samples but features.
        """
        if self.given and speech.ndim != 1:
            raise InputError(
                f"{utterance}: preprocessor_conf has {', '.join(self.given)}, which change samples, but speech has the "
                f"shape {speech.shape}, as of features; take them out, or train with --feats_type raw"
            )
        speech = change_speed(speech, float(np.random.choice(self.speed_perturb.get(task, [1.0]))))
        if task in self.noise and np.random.random() < self.noise_prob:
            lowest, highest = self.noise[task]
            speech = add_noise(speech, np.random.uniform(lowest, highest))
        if task in self.gain:
            speech = change_gain(speech, np.random.uniform(-self.gain[task], self.gain[task]))
        return speech


def change_speed(speech: np.ndarray, factor: float) -> np.ndarray:
    """Play speech (N,) ``factor`` times as fast, pitch and formants with it: about N / factor samples."""
    return resample(speech, round(factor * 100), 100)


def change_gain(speech: np.ndarray, decibels: float) -> np.ndarray:
    """Speech (N,) times 10^(decibels / 20).

    Example:
        >>> change_gain(np.array([0.1, -0.2], dtype=np.float32), 20.0)
        array([ 1., -2.], dtype=float32)
    """
    return (speech * 10 ** (decibels / 20)).astype(np.float32)


def add_noise(speech: np.ndarray, decibels: float) -> np.ndarray:
    """Speech (N,) and white noise, ``decibels`` the ratio of their energies. Silence stays silent."""
    import torchaudio

    noise = torch.from_numpy(np.random.standard_normal(len(speech)).astype(np.float32))
    return torchaudio.functional.add_noise(torch.from_numpy(speech), noise, torch.tensor(decibels)).float().numpy()
