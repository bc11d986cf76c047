"""Augmentation: how much, for which tasks, and how often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import noise

from harmonifuse_espnet.data.augmentation import Augmentation, add_noise, change_gain, change_speed

TASKS = ["asr", "ser"]
SPEECH = noise(1600)


def augment_many(count: int = 40, task: str = "ser", **options: Any) -> list[np.ndarray]:
    np.random.seed(0)
    augment = Augmentation(TASKS, **options)
    return [augment(SPEECH, task, "u") for _ in range(count)]


def decibels(signal: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(np.square(signal).sum() / np.square(reference).sum()))


def test_speed_1_1_shortens_by_that_factor_and_shifts_440_hz_to_484() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    faster = change_speed(tone, 1.1)
    assert len(faster) == -(-16000 * 10 // 11) and faster.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), n=16000))
    assert spectrum.argmax() == 484
    assert len(change_speed(tone, 0.9)) == -(-16000 * 10 // 9)
    assert change_speed(tone, 1.0) is tone


def test_6_decibels_about_double_the_amplitude() -> None:
    louder = change_gain(SPEECH, 20 * np.log10(2))
    assert louder.dtype == np.float32 and np.allclose(louder, 2 * SPEECH)
    assert decibels(change_gain(SPEECH, -6.0), SPEECH) == pytest.approx(-6.0, abs=1e-3)


def test_noise_has_the_given_signal_to_noise_ratio_and_is_white() -> None:
    np.random.seed(0)
    speech = noise(16000)
    noisy = add_noise(speech, 15.0)
    assert noisy.dtype == np.float32 and noisy.shape == speech.shape
    added = noisy - speech
    assert decibels(speech, added) == pytest.approx(15.0, abs=1e-3)
    bands = np.square(np.abs(np.fft.rfft(added)))[1:].reshape(8, -1).mean(1)
    assert bands.max() < 1.2 * bands.min()
    assert not add_noise(np.zeros(100, np.float32), 15.0).any()


def test_gains_are_uniform_over_the_range() -> None:
    gains = [decibels(speech, SPEECH) for speech in augment_many(400, gain={"ser": 6.0})]
    assert -6 <= min(gains) < -5.8 and 5.8 < max(gains) <= 6
    assert np.histogram(gains, bins=4, range=(-6, 6))[0].min() > 75


def test_noise_is_added_with_the_given_probability_and_range() -> None:
    added = [speech - SPEECH for speech in augment_many(400, noise={"ser": [10, 30]}, noise_prob=0.25)]
    ratios = [decibels(SPEECH, one) for one in added if one.any()]
    assert 70 <= len(ratios) <= 130
    assert 9.9 < min(ratios) < 11 and 29 < max(ratios) < 30.1
    assert all(speech is SPEECH for speech in augment_many(noise={"ser": [10, 30]}, noise_prob=0.0))


def test_tasks_without_an_option_are_not_changed() -> None:
    assert all(speech is SPEECH for speech in augment_many(task="asr", gain={"ser": 6.0}, noise={"ser": [10, 30]}))
    assert {len(speech) for speech in augment_many(task="ser", speed_perturb={"asr": [0.8, 1.25]})} == {1600}
    assert {len(speech) for speech in augment_many(task="asr", speed_perturb={"asr": [0.8, 1.25]})} == {2000, 1280}


def test_the_same_seed_gives_the_same_augmentation() -> None:
    options: dict[str, Any] = {"speed_perturb": {"ser": [0.9, 1.1]}, "gain": {"ser": 6.0}, "noise": {"ser": [10, 30]}}
    for one, other in zip(augment_many(**options), augment_many(**options), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed_perturb": {"age": [1.1]}}, r"speed_perturb has unknown tasks \['age'\]; the table has \['asr', 's"),
        ({"gain": {"age": 3.0}}, r"gain has unknown tasks \['age'\]"),
        ({"noise": {"age": [10, 20]}}, r"noise has unknown tasks \['age'\]"),
        ({"gain": {"ser": -3.0}}, "gain: task 'ser' has -3.0, expected 0 or more decibels"),
        ({"noise": {"ser": [30, 10]}}, r"noise: task 'ser' has \[30, 10\], expected \[minimum, maximum\] in decibels"),
        ({"noise": {"ser": [30]}}, r"noise: task 'ser' has \[30\], expected"),
        ({"noise": {"ser": [10, 30]}, "noise_prob": 2}, "noise_prob is 2, expected a probability from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(TASKS, **options)


@pytest.mark.parametrize("task", TASKS)
def test_features_are_refused_at_the_first_utterance_of_any_task(task: str) -> None:
    features = np.zeros((26, 80), np.float32)
    message = r"utt7: preprocessor_conf has gain, noise, .* shape \(26, 80\) of features; .* --feats_type raw"
    with pytest.raises(ValueError, match=message):
        Augmentation(TASKS, gain={"ser": 6.0}, noise={"ser": [10, 30]})(features, task, "utt7")
    assert Augmentation(TASKS)(features, task, "utt7") is features
