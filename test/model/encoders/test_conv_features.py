"""Convolutional features in chunks equal those of whole utterances."""

from __future__ import annotations

import pytest
import torch
from encoders import speech_batch
from tiny import encoder_config
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder

from harmonifuse_espnet.model.encoders import conv_features
from harmonifuse_espnet.model.encoders.conv_features import ReceptiveField, extract_by_chunk, extract_by_utterance

FIELD = ReceptiveField(325, 320)


def convolutions(norm: str) -> WavLMFeatureEncoder:
    torch.manual_seed(0)
    return WavLMFeatureEncoder(WavLMConfig(**{**encoder_config(), "feat_extract_norm": norm})).eval()


@pytest.mark.parametrize(
    ("kernels", "strides", "expected"),
    [
        ([3], [2], ReceptiveField(3, 2)),
        ([10, 8, 8], [5, 8, 8], FIELD),
        ([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], ReceptiveField(400, 320)),  # 25 ms every 20 ms
    ],
)
def test_the_receptive_field(kernels: list[int], strides: list[int], expected: ReceptiveField) -> None:
    field = ReceptiveField.of(kernels, strides)
    assert field == expected
    for samples in range(field.size, field.size + 2 * field.hop + 1):
        frames = samples
        for kernel, stride in zip(kernels, strides, strict=True):
            frames = (frames - kernel) // stride + 1
        assert int(field.num_frames(torch.tensor(samples))) == frames


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
@torch.no_grad()
def test_chunks_have_the_features_of_the_whole(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_features, "CHUNK_FRAMES", chunk)
    convs, (speech, lengths) = convolutions("layer"), speech_batch()
    features = extract_by_chunk(convs, FIELD, speech, lengths)
    for row, found in enumerate(features):
        whole = convs(speech[row : row + 1, : lengths[row]])[0].T
        torch.testing.assert_close(found[: len(whole)], whole, atol=1e-5, rtol=0)
    assert features.shape == (len(speech), int(FIELD.num_frames(lengths.max())), whole.size(1))


@torch.no_grad()
def test_chunks_beyond_the_end_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_features, "CHUNK_FRAMES", 4)
    convs, calls = convolutions("layer"), []
    convs.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    lengths = torch.tensor([320 * 16 + 5, 320 * 4 + 5])  # 16 and 4 frames: 4 chunks and 1
    extract_by_chunk(convs, FIELD, torch.zeros(2, 320 * 16 + 5), lengths)
    assert sum(calls) == 5 and max(calls) <= conv_features.CHUNKS_PER_CALL.cpu


@torch.no_grad()
def test_norms_over_time_are_computed_by_utterance() -> None:
    convs, (speech, lengths) = convolutions("group"), speech_batch()
    for row, features in enumerate(extract_by_utterance(convs, FIELD, speech, lengths)):
        whole = convs(speech[row : row + 1, : lengths[row]])[0].T
        torch.testing.assert_close(features[: len(whole)], whole)
        assert not features[len(whole) :].any()
