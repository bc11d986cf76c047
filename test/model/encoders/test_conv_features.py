"""Convolutions by pieces are convolutions of the whole."""

from __future__ import annotations

import pytest
import torch
from encoders import speech_batch
from tiny import encoder_config
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder

from harmonifuse_espnet.model.encoders import conv_features
from harmonifuse_espnet.model.encoders.conv_features import ReceptiveField, by_pieces, by_utterance

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
        assert int(field.frames(torch.tensor(samples))) == frames


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
@torch.no_grad()
def test_pieces_give_the_whole(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_features, "PIECE", piece)
    convs, (speech, lengths) = convolutions("layer"), speech_batch()
    found = by_pieces(convs, FIELD, speech, lengths)
    for row, features in enumerate(found):
        whole = convs(speech[row : row + 1, : lengths[row]])[0].T
        torch.testing.assert_close(features[: len(whole)], whole, atol=1e-5, rtol=0)
    assert found.shape == (len(speech), int(FIELD.frames(lengths.max())), whole.size(1))


@torch.no_grad()
def test_pieces_beyond_the_end_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_features, "PIECE", 4)
    convs, seen = convolutions("layer"), []
    convs.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    lengths = torch.tensor([320 * 16 + 5, 320 * 4 + 5])  # 16 and 4 frames: 4 pieces and 1
    by_pieces(convs, FIELD, torch.zeros(2, 320 * 16 + 5), lengths)
    assert sum(seen) == 5 and max(seen) <= conv_features.PIECES["cpu"]


@torch.no_grad()
def test_norms_over_time_hear_one_utterance() -> None:
    convs, (speech, lengths) = convolutions("group"), speech_batch()
    for row, features in enumerate(by_utterance(convs, FIELD, speech, lengths)):
        whole = convs(speech[row : row + 1, : lengths[row]])[0].T
        torch.testing.assert_close(features[: len(whole)], whole)
        assert not features[len(whole) :].any()
