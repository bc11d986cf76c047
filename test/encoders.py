"""Checks that apply to every speech encoder, and the hidden states of Hugging Face to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tiny import noise
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.base import SpeechEncoder
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder

SAMPLES = (12000, 4001, 7777, 8000, 640)


def speech_batch(samples: Sequence[int] = SAMPLES) -> tuple[Tensor, Tensor]:
    """Return different utterances of these lengths, as a padded batch (B, N) and its lengths (B,)."""
    speech = [torch.from_numpy(noise(size, seed)) for seed, size in enumerate(samples)]
    return pad_sequence(speech, batch_first=True), torch.tensor(samples)


def check_batch_invariant(encoder: SpeechEncoder) -> None:
    """Check that an utterance has the same states in a batch and alone, of the sizes that the encoder states."""
    speech, lengths = speech_batch()
    with torch.no_grad():
        lazy, frames = encoder(speech, lengths)
        states = list(lazy)
        for row, size in enumerate(SAMPLES):
            lazy, count = encoder(speech[row : row + 1, :size], lengths[row : row + 1])
            alone = list(lazy)
            assert count.tolist() == [frames[row]] and len(alone) == len(states) == encoder.num_layers
            assert abs(int(count) * encoder.frame_shift - size / 16000) < 1.5 * encoder.frame_shift
            assert abs(encoder.num_frames(size) - int(count)) <= 1
            for together, single in zip(states, alone, strict=True):
                assert single.shape == (1, count, encoder.hidden_size)
                torch.testing.assert_close(together[row, : int(count)], single[0], atol=1e-5, rtol=0)
                assert single.std() > 0.05  # equal, but not because all are constant


@torch.no_grad()
def library_states(encoder: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor) -> list[Tensor]:
    """Return Hugging Face's ``hidden_states[1:]`` with the same weights, zero beyond the end.

    If the first convolution is normalised over time, Hugging Face's result is right for single utterances only (its
    preprocessors request no mask), so that these are encoded one by one.
    """
    inputs, frames = encoder.preprocess(speech, lengths), encoder.frame_lengths(lengths)
    mask = length_mask(lengths, speech.size(1)).long()
    if encoder.encoder.config.feat_extract_norm == "layer":
        states = encoder.encoder(inputs, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
    else:
        rows = [
            encoder.encoder(row[None, :length], output_hidden_states=True).hidden_states[1:]
            for row, length in zip(inputs, lengths.tolist(), strict=True)
        ]
        states = [pad_sequence([row[0] for row in layer], batch_first=True) for layer in zip(*rows, strict=True)]
    return [state * length_mask(frames, state.size(1))[..., None] for state in states]
