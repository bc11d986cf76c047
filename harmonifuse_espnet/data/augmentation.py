"""Waveform augmentation that does not change the target: speed perturbation, white noise, gain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.audio import resample


class Augmentation:
    """Random speed perturbation, white noise and gain, configured per task.

    An option does not change tasks that it does not list. Random numbers come from NumPy's global state, which ESPnet
    seeds by epoch. SpecAugment is an option of the frontend.

    Args:
        tasks: Names of all tasks.
        speed_perturb: Task -> speed factors to draw from, such as ``{"asr": [0.9, 1.0, 1.1]}`` (Ko et al., 2015).
        gain: Task -> maximum g of the gain, which is drawn from -g to g decibels. Samples beyond 1 are not clipped.
        noise: Task -> [minimum, maximum] signal-to-noise ratio of white noise, in decibels.
        noise_prob: Probability of noise.

    Raises:
        InputError: if an option has an unknown task, or its value is out of range.
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
        self.used_options = [option for option, values in options.items() if values]
        for option, values in options.items():
            unknown = set(values) - set(tasks)
            if unknown:
                raise InputError(f"{option} has unknown tasks {sorted(unknown)}; the table has {sorted(tasks)}")
        self._check_ranges()

    def _check_ranges(self) -> None:
        for task, decibels in self.gain.items():
            if decibels < 0:
                raise InputError(f"gain: task '{task}' has {decibels}, expected 0 or more decibels")
        for task, ratios in self.noise.items():
            if len(ratios) != 2 or ratios[0] > ratios[1]:
                raise InputError(f"noise: task '{task}' has {ratios}, expected [minimum, maximum] in decibels")
        if not 0 <= self.noise_prob <= 1:
            raise InputError(f"noise_prob is {self.noise_prob}, expected a probability from 0 to 1")

    def __call__(self, speech: np.ndarray, task: str, utterance: str) -> np.ndarray:
        """Augment samples (N,); the result has about N / speed factor samples.

        Raises:
            InputError: if ``speech`` is features and there are options, even if only for other tasks.
        """
        if self.used_options and speech.ndim != 1:
            raise InputError(
                f"{utterance}: preprocessor_conf has {', '.join(self.used_options)}, which need a waveform, but speech "
                f"has the shape {speech.shape} of features; remove them, or train with --feats_type raw"
            )
        speech = change_speed(speech, float(np.random.choice(self.speed_perturb.get(task, [1.0]))))
        if task in self.noise and np.random.random() < self.noise_prob:
            minimum, maximum = self.noise[task]
            speech = add_noise(speech, np.random.uniform(minimum, maximum))
        if task in self.gain:
            speech = change_gain(speech, np.random.uniform(-self.gain[task], self.gain[task]))
        return speech


def change_speed(speech: np.ndarray, factor: float) -> np.ndarray:
    """Resample speech (N,) to about N / factor samples, which also shifts pitch and formants by ``factor``."""
    return resample(speech, round(factor * 100), 100)


def change_gain(speech: np.ndarray, decibels: float) -> np.ndarray:
    """Multiply speech (N,) by 10^(decibels / 20).

    Example:
        >>> change_gain(np.array([0.1, -0.2], dtype=np.float32), 20.0)
        array([ 1., -2.], dtype=float32)
    """
    return (speech * 10 ** (decibels / 20)).astype(np.float32)


def add_noise(speech: np.ndarray, decibels: float) -> np.ndarray:
    """Add white noise to speech (N,) at a signal-to-noise ratio of ``decibels``; digital silence is not changed."""
    import torchaudio

    noise = torch.from_numpy(np.random.standard_normal(len(speech)).astype(np.float32))
    return torchaudio.functional.add_noise(torch.from_numpy(speech), noise, torch.tensor(decibels)).float().numpy()
