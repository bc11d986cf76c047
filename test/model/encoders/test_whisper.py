"""Whisper's encoder: features as by the extractor, and Hugging Face's states cut to the utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoders import check_batch_invariant, speech_batch
from tiny import encoder_config, noise
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from harmonifuse_espnet.model.encoders.whisper import WhisperEncoder, WhisperLogMel

TINY: dict[str, Any] = {
    **{"model_type": "whisper", "d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2},
    **{"encoder_ffn_dim": 32, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16},
    **{"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0},
    **{"num_mel_bins": 12, "init_std": 0.3},
}
LARGE_V3: dict[str, Any] = {
    **{"model_type": "whisper", "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20},
    **{"encoder_ffn_dim": 5120, "decoder_attention_heads": 20, "decoder_layers": 1, "num_mel_bins": 128},
}


def build(freeze: bool = True, **fields: Any) -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(config={**TINY, **fields}, freeze=freeze).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(1)
    WhisperModel(WhisperConfig(**TINY)).save_pretrained(path)
    WhisperFeatureExtractor(feature_size=12).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_features_are_those_of_the_extractor(n_mels: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    samples = [noise(16000, 1), 0.001 * noise(7777, 2), noise(480000, 3), np.zeros(800, np.float32)]
    expected = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
    speech = torch.zeros(4, 480000)
    for row, sound in zip(speech, samples, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    found = WhisperLogMel(extractor)(speech)
    assert found.shape == expected.shape == (4, n_mels, 3000)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_states_are_those_of_hugging_face(folder: str) -> None:
    encoder, library = WhisperEncoder(model=folder), WhisperModel.from_pretrained(folder).encoder.eval()
    samples = [noise(size, seed) for seed, size in enumerate((16000, 5001, 480000))]
    features = WhisperFeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = library(features.input_features, output_hidden_states=True).hidden_states[1:]
    states, lengths = encoder(*speech_batch((16000, 5001, 480000)))
    states = list(states)
    assert lengths.tolist() == [50, 16, 1500] and len(states) == len(expected) == encoder.num_layers
    for state, hidden in zip(states, expected, strict=True):
        for row, other, length in zip(state, hidden, lengths, strict=True):
            torch.testing.assert_close(row[:length], other[:length], atol=1e-4, rtol=0)
            assert not row[length:].any() and row[:length].std() > 0.05


def test_states_do_not_depend_on_the_batch() -> None:
    check_batch_invariant(build())


def test_utterances_longer_than_30_s_are_encoded_in_windows() -> None:
    encoder, long = build(), torch.from_numpy(noise(490000))
    parts = torch.zeros(2, 480000)
    parts[0], parts[1, :10000] = long[:480000], long[480000:]
    states, lengths = encoder(torch.stack([long, long]), torch.tensor([490000, 5001]))
    assert lengths.tolist() == [1532, 16]
    for state, window in zip(states, encoder(parts, torch.tensor([480000, 10000]))[0], strict=True):
        torch.testing.assert_close(state[0], torch.cat([window[0], window[1, :32]]), atol=1e-5, rtol=0)
        assert not state[1, 16:].any() and state[1, :16].any()


def test_another_model_type_is_refused() -> None:
    with pytest.raises(ValueError, match="config is of type wavlm, the frontend whisper supports whisper; for WavLM"):
        WhisperEncoder(config=encoder_config("wavlm"))


def test_gradients_reach_all_but_the_fixed_positions_of_a_trained_encoder_and_none_of_a_frozen_one(folder: str) -> None:
    batch = speech_batch((16000, 5001))
    frozen = WhisperEncoder(model=folder).train()
    assert frozen.restorable and not frozen.encoder.training
    assert not any(state.requires_grad for state in frozen(*batch)[0]) and torch.is_grad_enabled()
    for checkpointing in (False, True):
        encoder = WhisperEncoder(model=folder, freeze=False, gradient_checkpointing=checkpointing).train()
        sum(state.square().sum() for state in encoder(*batch)[0]).backward()
        idle = {name for name, weight in encoder.encoder.named_parameters() if weight.grad is None}
        assert idle == {"embed_positions.weight"} and not encoder.restorable


def test_weights_are_loaded_from_the_folder_without_the_decoder(folder: str) -> None:
    expected = WhisperModel.from_pretrained(Path(folder)).encoder.state_dict()
    found = WhisperEncoder(model=folder).encoder.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_published_size_follows_from_the_architecture() -> None:
    """Count the parameters of Whisper large from its architecture.

    Radford et al., 2022, arXiv:2212.04356, table 1: 32 layers of width 1280, 20 heads; 128 mel bins since v3. Two
    convolutions of kernel 3, positions of 1500 frames, layers whose keys have no bias, a norm.
    """
    width, feedforward = 1280, 5120
    convs = 3 * 128 * width + width + 3 * width * width + width
    layer = 4 * width * width + 3 * width + 2 * width * feedforward + feedforward + width + 4 * width
    with torch.device("meta"):
        encoder = WhisperEncoder(config=LARGE_V3)
    count = sum(weight.numel() for weight in encoder.parameters())
    assert count == convs + 1500 * width + 32 * layer + 2 * width and round(count / 1e6, 1) == 637.0
