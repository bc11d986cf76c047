"""The Conformer encoder and dumped states: an utterance's states do not depend on its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import check_batch_invariant
from tiny import LOGMEL, noise, save_encoder

from harmonifuse_espnet.data.logmel import LogMel
from harmonifuse_espnet.data.stats import stats_path
from harmonifuse_espnet.inference.extractors import SSLExtractor
from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.encoders.precomputed import PrecomputedEncoder
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("wavlm"))


def test_states_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    check_batch_invariant(ConformerEncoder(**LOGMEL).eval())


def test_states_do_not_depend_on_samples_beyond_the_end() -> None:
    torch.manual_seed(0)
    encoder = ConformerEncoder(**LOGMEL).eval()
    speech, lengths = torch.from_numpy(noise(8000))[None].repeat(2, 1), torch.tensor([8000, 5000])
    loud = speech.clone()
    loud[1, 5000:] = 1.0
    states, count = encoder(speech, lengths)
    for one, other in zip(states, encoder(loud, lengths)[0], strict=True):
        torch.testing.assert_close(one[1, : int(count[1])], other[1, : int(count[1])], atol=1e-5, rtol=0)


def test_logmel_has_100_frames_a_second_and_a_tone_in_its_bin() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    features, lengths = LogMel(40)(tone, torch.tensor([16000]))
    assert features.shape == (1, 101, 40) and lengths.tolist() == [101]
    centres = 700 * (10 ** (torch.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    assert features[0, 50].argmax() == (centres[1:-1] - 1000).abs().argmin()
    silence, _ = LogMel(40)(torch.zeros(1, 800), torch.tensor([800]))
    torch.testing.assert_close(silence, torch.full((1, 6, 40), np.log(1e-6)))


@pytest.mark.parametrize("samples", [160, 639, 640, 16000, 16001])
def test_frames_of_40_ms_are_counted(samples: int) -> None:
    encoder = ConformerEncoder(**LOGMEL).eval()
    states, lengths = encoder(torch.zeros(1, samples), torch.tensor([samples]))
    frames = samples // 160 + 1
    assert lengths.tolist() == [states[0].size(1)] == [-(-frames // 4)] == [encoder.num_frames(samples)]


def test_features_are_float32_under_bfloat16_autocast() -> None:
    encoder, features = ConformerEncoder(**LOGMEL).eval(), []
    encoder.subsampling.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            encoder(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))
    assert torch.equal(*features) and features[0].dtype == torch.float32


def test_dumped_fbank_has_the_states_of_the_waveform() -> None:
    torch.manual_seed(0)
    raw = ConformerEncoder(**LOGMEL).eval()
    dumped = ConformerEncoder(**LOGMEL, feats_type="fbank").eval()
    dumped.load_state_dict(raw.state_dict(), strict=False)
    speech, lengths = torch.from_numpy(noise(8000))[None], torch.tensor([8000])
    expected, count = raw(speech, lengths)
    states, same = dumped(*LogMel(12)(speech, lengths))
    assert count.tolist() == same.tolist()
    for one, other in zip(states, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_specaug_masks_in_training_only_and_does_not_change_the_dump() -> None:
    conf = {"apply_time_warp": False, "freq_mask_width_range": (3, 6), "num_freq_mask": 2, "apply_time_mask": False}
    encoder = ConformerEncoder(**LOGMEL, feats_type="fbank", specaug=conf, dropout=0.0)
    dump = torch.randn(1, 40, 12)
    before, lengths = dump.clone(), torch.tensor([40])
    encoder.eval()
    unmasked = encoder(dump, lengths)[0][-1]
    torch.testing.assert_close(encoder(dump, lengths)[0][-1], unmasked)
    encoder.train()
    assert (encoder(dump, lengths)[0][-1] - unmasked).abs().max() > 1e-3
    assert torch.equal(dump, before)


def test_normalisation_gives_zero_mean_and_unit_variance(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(3.0, 2.0, (500, 12))
    stats = {"count": len(frames), "sum": frames.sum(0), "sum_square": (frames**2).sum(0)}
    np.savez(tmp_path / "feats_stats.npz", **stats)
    encoder = ConformerEncoder(**LOGMEL, feats_type="fbank", feats_stats=stats_path(tmp_path / "feats_stats.npz"))
    assert encoder.normalize is not None
    normalised, _ = encoder.normalize(torch.from_numpy(frames).float()[None], torch.tensor([500]))
    torch.testing.assert_close(normalised[0].mean(0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised[0].std(0, unbiased=False), torch.ones(12), atol=1e-4, rtol=0)
    with pytest.raises(FileNotFoundError, match="absent.npz: no such statistics file; stage 5 creates it"):
        stats_path(tmp_path / "absent.npz")
    assert stats_path(None) is None


def test_dumped_layers_have_the_same_states(wavlm: str) -> None:
    samples = noise(8000)
    encoder = SelfSupervisedEncoder(model=wavlm).eval()
    lazy, lengths = encoder(torch.from_numpy(samples)[None], torch.tensor([8000]))
    states = list(lazy)
    for layers in (None, [3, 1]):
        dump = torch.from_numpy(SSLExtractor({"model": wavlm}, layers)(samples))
        chosen = [states[layer - 1] for layer in layers or (1, 2, 3)]
        dumped, count = PrecomputedEncoder(len(chosen), 16)(dump[None], torch.tensor([len(dump)]))
        assert count.tolist() == lengths.tolist()
        for one, other in zip(dumped, chosen, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_dump_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the feature dump is 48 wide, num_layers x hidden_size is 2 x 16 = 32; run"):
        PrecomputedEncoder(2, 16)(torch.zeros(1, 5, 48), torch.tensor([5]))
