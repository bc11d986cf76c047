"""Encoders: an utterance's states do not depend on its batch, and a frozen encoder stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LOGMEL, encoder_config, noise, pad, save_encoder
from torch import nn

from harmonifuse_espnet.features import SSLExtractor
from harmonifuse_espnet.frontend import HuggingFaceFrontend, LogMel, LogMelFrontend, PrecomputedFrontend, stats_path

SAMPLES = (12000, 4001, 7777, 8000, 640)


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("wavlm"))


def check_batch_invariant(frontend: nn.Module) -> None:
    batch = pad([noise(size, seed) for seed, size in enumerate(SAMPLES)], "speech")
    with torch.no_grad():
        states, lengths = frontend(batch["speech"], batch["speech_lengths"])
        for row, size in enumerate(SAMPLES):
            alone, count = frontend(torch.from_numpy(noise(size, row))[None], torch.tensor([size]))
            assert count.tolist() == [lengths[row]] and len(alone) == len(states) == frontend.num_layers
            for together, single in zip(states, alone, strict=True):
                assert single.shape == (1, count, frontend.hidden_size)
                torch.testing.assert_close(together[row, : int(count)], single[0], atol=1e-5, rtol=0)
                assert single.std() > 0.05  # not equal for being constant


def test_logmel_states_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    check_batch_invariant(LogMelFrontend(**LOGMEL).eval())


@pytest.mark.parametrize("kind", ["logmel", "wavlm"])
def test_what_lies_beyond_the_end_is_not_heard(kind: str) -> None:
    torch.manual_seed(0)
    frontend = LogMelFrontend(**LOGMEL) if kind == "logmel" else HuggingFaceFrontend(config=encoder_config())
    speech, lengths = torch.from_numpy(noise(8000))[None].repeat(2, 1), torch.tensor([8000, 5000])
    loud = speech.clone()
    loud[1, 5000:] = 1.0
    states, count = frontend.eval()(speech, lengths)
    for one, other in zip(states, frontend(loud, lengths)[0], strict=True):
        torch.testing.assert_close(one[1, : int(count[1])], other[1, : int(count[1])], atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["wavlm", "hubert", "wav2vec2"])
def test_states_of_layer_norm_encoders_do_not_depend_on_the_batch(model_type: str) -> None:
    torch.manual_seed(0)
    check_batch_invariant(HuggingFaceFrontend(config=encoder_config(model_type)).eval())


def test_states_of_group_norm_encoders_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    config = {**encoder_config(), "feat_extract_norm": "group", "do_stable_layer_norm": False}
    check_batch_invariant(HuggingFaceFrontend(config=config).eval())


def test_logmel_has_100_frames_a_second_and_a_tone_in_its_bin() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    features, lengths = LogMel(40)(tone, torch.tensor([16000]))
    assert features.shape == (1, 101, 40) and lengths.tolist() == [101]
    centres = 700 * (10 ** (torch.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    assert features[0, 50].argmax() == (centres[1:-1] - 1000).abs().argmin()
    silence, _ = LogMel(40)(torch.zeros(1, 800), torch.tensor([800]))
    torch.testing.assert_close(silence, torch.full((1, 6, 40), np.log(1e-6)))


@pytest.mark.parametrize("samples", [160, 639, 640, 16000, 16001])
def test_logmel_frontend_counts_frames_of_40_ms(samples: int) -> None:
    frontend = LogMelFrontend(**LOGMEL).eval()
    states, lengths = frontend(torch.zeros(1, samples), torch.tensor([samples]))
    frames = samples // 160 + 1
    assert lengths.tolist() == [states[0].size(1)] == [-(-frames // 4)]


def test_dumped_fbank_gives_the_states_of_the_waveform() -> None:
    torch.manual_seed(0)
    raw = LogMelFrontend(**LOGMEL).eval()
    dumped = LogMelFrontend(**LOGMEL, feats_type="fbank").eval()
    dumped.load_state_dict(raw.state_dict(), strict=False)
    speech, lengths = torch.from_numpy(noise(8000))[None], torch.tensor([8000])
    expected, count = raw(speech, lengths)
    states, same = dumped(*LogMel(12)(speech, lengths))
    assert count.tolist() == same.tolist()
    for one, other in zip(states, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_specaug_masks_in_training_only_and_leaves_a_dump_as_it_was() -> None:
    conf = {"apply_time_warp": False, "freq_mask_width_range": (3, 6), "num_freq_mask": 2, "apply_time_mask": False}
    frontend = LogMelFrontend(**LOGMEL, feats_type="fbank", specaug=conf, dropout=0.0)
    dump = torch.randn(1, 40, 12)
    before, lengths = dump.clone(), torch.tensor([40])
    frontend.eval()
    quiet = frontend(dump, lengths)[0][-1]
    torch.testing.assert_close(frontend(dump, lengths)[0][-1], quiet)
    frontend.train()
    assert (frontend(dump, lengths)[0][-1] - quiet).abs().max() > 1e-3
    assert torch.equal(dump, before)


def test_normalisation_takes_mean_and_variance_away(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(3.0, 2.0, (500, 12))
    stats = {"count": len(frames), "sum": frames.sum(0), "sum_square": (frames**2).sum(0)}
    np.savez(tmp_path / "feats_stats.npz", **stats)
    frontend = LogMelFrontend(**LOGMEL, feats_type="fbank", feats_stats=stats_path(tmp_path / "feats_stats.npz"))
    assert frontend.normalize is not None
    normal, _ = frontend.normalize(torch.from_numpy(frames).float()[None], torch.tensor([500]))
    torch.testing.assert_close(normal[0].mean(0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal[0].std(0, unbiased=False), torch.ones(12), atol=1e-4, rtol=0)
    with pytest.raises(FileNotFoundError, match="absent.npz: no such statistics file; stage 5 makes it"):
        stats_path(tmp_path / "absent.npz")
    assert stats_path(None) is None


def test_all_layers_but_the_embedding_are_given(wavlm: str) -> None:
    frontend = HuggingFaceFrontend(model=wavlm).eval()
    speech = torch.from_numpy(noise(8000))[None]
    states, lengths = frontend(speech, torch.tensor([8000]))
    scaled = (speech - speech.mean()) / (speech.var(unbiased=False) + 1e-7).sqrt()
    inner = frontend.encoder(scaled, output_hidden_states=True)
    assert len(states) == frontend.num_layers == 3 and len(inner.hidden_states) == 4
    for state, expected in zip(states, inner.hidden_states[1:], strict=True):
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=0)
    assert (states[0] - inner.hidden_states[0]).abs().max() > 0.1
    assert lengths.tolist() == [states[0].size(1)] == [24]  # (8000 - 400) // 320 + 1 for this receptive field


def test_frames_follow_the_convolutions() -> None:
    frontend = HuggingFaceFrontend(config=encoder_config()).eval()
    for samples in (640, 4001, 16000):
        expected = samples
        for kernel, stride in zip(encoder_config()["conv_kernel"], encoder_config()["conv_stride"], strict=True):
            expected = (expected - kernel) // stride + 1
        states, lengths = frontend(torch.zeros(1, samples), torch.tensor([samples]))
        assert lengths.tolist() == [states[0].size(1)] == [expected]


def test_a_frozen_encoder_stays_in_eval_mode_and_gets_no_gradients(wavlm: str) -> None:
    frontend = HuggingFaceFrontend(model=wavlm).train()
    assert frontend.training and not any(module.training for module in frontend.encoder.modules())
    states, _ = frontend(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))
    assert not any(state.requires_grad for state in states) and torch.is_grad_enabled()
    assert not any(parameter.requires_grad for parameter in frontend.parameters())
    again, _ = frontend(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))
    assert torch.equal(states[-1], again[-1])  # no dropout, no masking


def test_a_trained_encoder_learns_and_drops_no_layer(wavlm: str) -> None:
    frontend = HuggingFaceFrontend(model=wavlm, freeze=False).train()
    assert frontend.encoder.training and frontend.encoder.config.layerdrop == 0.0
    assert not frontend.encoder.config.apply_spec_augment
    states, _ = frontend(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))
    sum(state.square().sum() for state in states).backward()
    layers = frontend.encoder.encoder.layers
    assert all(layer.feed_forward.output_dense.weight.grad.abs().sum() > 0 for layer in layers)


def test_weights_are_restorable_when_frozen_and_named(wavlm: str) -> None:
    assert HuggingFaceFrontend(model=wavlm).restorable
    assert not HuggingFaceFrontend(model=wavlm, freeze=False).restorable
    assert not HuggingFaceFrontend(config=encoder_config()).restorable


@pytest.mark.parametrize("conf", [{}, {"model": "a", "config": {"model_type": "wavlm"}}])
def test_exactly_one_of_model_and_config(conf: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frontend_conf needs either 'model' or 'config', got model="):
        HuggingFaceFrontend(**conf)


def test_a_dump_of_the_layers_gives_the_same_states(wavlm: str) -> None:
    samples = noise(8000)
    frontend = HuggingFaceFrontend(model=wavlm).eval()
    states, lengths = frontend(torch.from_numpy(samples)[None], torch.tensor([8000]))
    for layers in (None, [3, 1]):
        dump = torch.from_numpy(SSLExtractor({"model": wavlm}, layers)(samples))
        chosen = [states[layer - 1] for layer in layers or (1, 2, 3)]
        given, count = PrecomputedFrontend(len(chosen), 16)(dump[None], torch.tensor([len(dump)]))
        assert count.tolist() == lengths.tolist()
        for one, other in zip(given, chosen, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_dump_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the feature dump is 48 wide, num_layers x hidden_size is 2 x 16 = 32; run"):
        PrecomputedFrontend(2, 16)(torch.zeros(1, 5, 48), torch.tensor([5]))
