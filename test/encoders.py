"""What every speech encoder is held to, and Hugging Face's own states to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tiny import noise, pad
from torch import Tensor, nn

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder

SAMPLES = (12000, 4001, 7777, 8000, 640)


def speech_batch(samples: Sequence[int] = SAMPLES) -> tuple[Tensor, Tensor]:
    """Utterances of these lengths, each another sound."""
    batch = pad([noise(size, seed) for seed, size in enumerate(samples)], "speech")
    return batch["speech"], batch["speech_lengths"]


def check_batch_invariant(frontend: nn.Module) -> None:
    """An utterance has the same states in a batch and alone, and each layer other ones."""
    speech, lengths = speech_batch()
    with torch.no_grad():
        states, frames = frontend(speech, lengths)
        states = list(states)
        for row, size in enumerate(SAMPLES):
            alone, count = frontend(speech[row : row + 1, :size], lengths[row : row + 1])
            alone = list(alone)
            assert count.tolist() == [frames[row]] and len(alone) == len(states) == frontend.num_layers
            assert abs(int(count) * frontend.frame_shift - size / 16000) < 1.5 * frontend.frame_shift
            for together, single in zip(states, alone, strict=True):
                assert single.shape == (1, count, frontend.hidden_size)
                torch.testing.assert_close(together[row, : int(count)], single[0], atol=1e-5, rtol=0)
                assert single.std() > 0.05  # not equal for being constant


@torch.no_grad()
def library_states(frontend: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor) -> list[Tensor]:
    """Hugging Face's ``hidden_states[1:]`` of the same weights, zero beyond the end.

    Where the first convolution is normalised over time, Hugging Face's own answers are right for single utterances
    only (its preprocessors ask for no mask), so that these are read one by one.
    """
    inputs, frames = frontend.prepare(speech, lengths), frontend.frames(lengths)
    mask = length_mask(lengths, speech.size(1)).long()
    if frontend.encoder.config.feat_extract_norm == "layer":
        states = frontend.encoder(inputs, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
    else:
        rows = [
            frontend.encoder(row[None, :length], output_hidden_states=True).hidden_states[1:]
            for row, length in zip(inputs, lengths.tolist(), strict=True)
        ]
        states = [
            nn.utils.rnn.pad_sequence([row[0] for row in layer], batch_first=True) for layer in zip(*rows, strict=True)
        ]
    return [state * length_mask(frames, state.size(1))[..., None] for state in states]
