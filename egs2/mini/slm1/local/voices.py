"""Speech synthesis with eSpeak NG (pip package espeakng-loader), emotions with WORLD (pyworld): 16 kHz, float, mono."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import espeakng_loader
import numpy as np
import pyworld
from scipy.signal import resample_poly

from harmonifuse_espnet.common.errors import InputError

SAMPLE_RATE = 16000
FRAME_PERIOD = 10.0
RMS = 0.05
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # of espeak_PARAMETER
RETRIEVAL, UTF8 = 1, 1


@dataclass(frozen=True)
class Voice:
    """A voice: name in eSpeak NG, pitch (0..100; 50 is the default of the variant), words per minute, and size.

    A size of 1.05 is a vocal tract that is 5 % longer: all formants and the pitch are 5 % lower.
    """

    name: str
    pitch: int = 50
    rate: int = 170
    size: float = 1.0


@dataclass(frozen=True)
class Emotion:
    """How speech with an emotion differs from the neutral speech of the voice.

    Attributes:
        rate: Factor of the speaking rate.
        pitch: Semitones added to the pitch.
        spread: Factor of the pitch's deviation from its mean.
        slope: Semitones by which the pitch rises from the start of the sentence to its end.
        gain: Level in decibels.
        tilt: Spectral tilt around 1 kHz, in decibels per octave; positive for tense voices.
        breath: Share of noise in voiced sounds at 8 kHz, 0..1.
    """

    rate: float
    pitch: float
    spread: float
    slope: float
    gain: float
    tilt: float
    breath: float


EMOTIONS = {
    "neu": Emotion(rate=1.0, pitch=0.0, spread=1.0, slope=0.0, gain=0.0, tilt=0.0, breath=0.25),
    "ang": Emotion(rate=1.15, pitch=2.5, spread=1.5, slope=-3.0, gain=9.0, tilt=4.5, breath=0.1),
    "hap": Emotion(rate=1.08, pitch=6.0, spread=2.4, slope=4.0, gain=4.5, tilt=1.5, breath=0.2),
    "sad": Emotion(rate=0.78, pitch=-2.0, spread=0.4, slope=-1.0, gain=-6.0, tilt=-3.5, breath=0.8),
    "fru": Emotion(rate=1.0, pitch=1.0, spread=1.2, slope=-4.0, gain=3.0, tilt=1.5, breath=0.4),
}
# Standard deviation of the values of a performance around those of its emotion.
VARIATION = Emotion(rate=0.05, pitch=0.8, spread=0.2, slope=1.0, gain=1.2, tilt=0.6, breath=0.06)


def perform(emotion: Emotion, generator: np.random.Generator) -> Emotion:
    """Draw a performance of an emotion: values normally distributed around those of the emotion."""
    drawn = {key: float(generator.normal(mean, getattr(VARIATION, key))) for key, mean in vars(emotion).items()}
    drawn["breath"] = min(max(drawn["breath"], 0.02), 0.98)
    drawn["spread"] = max(drawn["spread"], 0.1)
    return Emotion(**drawn)


class Speaker:
    """Speech synthesis with eSpeak NG in this process.

    Its voices have a state: the samples of a sentence depend on the sentences before it. Reproducible audio needs a new
    process.

    Raises:
        OSError: if eSpeak NG cannot be initialised.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate = self._library.espeak_Initialize(RETRIEVAL, 0, data, 0)
        if self._rate <= 0:
            raise OSError(f"eSpeak NG does not start with the data in {data.decode()}; reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # the default seed is the time
        self._chunks: list[np.ndarray] = []
        self._callback = self._make_callback()  # keeps a reference, which ctypes does not
        self._library.espeak_SetSynthCallback(self._callback)

    def _make_callback(self) -> Any:
        def collect(samples: Any, count: int, _events: int | None) -> int:
            if samples and count > 0:
                self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        kind: Callable[..., Any] = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        return kind(collect)

    def say(self, voice: Voice, sentence: str, rate: float = 1.0) -> np.ndarray:
        """Synthesise a sentence at ``rate`` times the voice's rate, at a fixed level: (N,), 16 kHz.

        Raises:
            InputError: if eSpeak NG does not have the voice.
        """
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise InputError(f"eSpeak NG has no voice '{voice.name}'")
        words_per_minute = round(voice.rate * rate * voice.size)  # resampling to the size slows the speech down
        for parameter, value in ((RATE, words_per_minute), (VOLUME, 90), (PITCH, voice.pitch), (RANGE, 50)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = sentence.encode()
        self._chunks.clear()
        self._library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate(self._chunks) / 32768.0
        ratio = Fraction(SAMPLE_RATE * voice.size / self._rate).limit_denominator(300)
        samples = _trim(resample_poly(samples, ratio.numerator, ratio.denominator))
        return samples * RMS / np.sqrt(np.mean(samples**2))

    def act(self, voice: Voice, sentence: str, emotion: Emotion) -> np.ndarray:
        """Synthesise a sentence with a performance of an emotion: (N,), 16 kHz."""
        samples = self.say(voice, sentence, emotion.rate)
        pitch, times = pyworld.dio(samples, SAMPLE_RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=FRAME_PERIOD)
        envelope = pyworld.cheaptrick(samples, pitch, times, SAMPLE_RATE)
        hertz = np.linspace(0.0, SAMPLE_RATE / 2, envelope.shape[1])
        octaves = np.log2(np.maximum(hertz, 125.0) / 1000.0)
        noise = np.where(pitch[:, None] > 0, emotion.breath * (hertz / 8000.0) ** 0.5, 1.0)
        acted = pyworld.synthesize(
            _contour(pitch, emotion),
            envelope * 10.0 ** (emotion.tilt * octaves / 10.0),
            np.clip(noise, 0.001, 0.999),
            SAMPLE_RATE,
            FRAME_PERIOD,
        )
        acted *= RMS * 10.0 ** (emotion.gain / 20.0) / np.sqrt(np.mean(acted**2))
        return np.clip(acted, -0.99, 0.99)


def _contour(pitch: np.ndarray, emotion: Emotion) -> np.ndarray:
    """Return the pitch in hertz (0: unvoiced), shifted, spread and sloped."""
    voiced = pitch > 0
    semitones = 12.0 * np.log2(pitch, where=voiced, out=np.zeros_like(pitch))
    mean = semitones[voiced].mean() if voiced.any() else 0.0
    slope = emotion.slope * np.linspace(-0.5, 0.5, len(pitch))
    moved = mean + emotion.pitch + emotion.spread * (semitones - mean) + slope
    return np.where(voiced, np.clip(2.0 ** (moved / 12.0), 55.0, 800.0), 0.0)


def _trim(samples: np.ndarray, margin: float = 0.05) -> np.ndarray:
    """Remove the silence around the speech, except a margin in seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    edge = round(margin * SAMPLE_RATE)
    return samples[max(loud[0] - edge, 0) : loud[-1] + edge]
