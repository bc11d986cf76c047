"""Limits by device: every device other than the CPU uses the accelerator's value."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from harmonifuse_espnet.model.encoders import conv_features, packed_attention, wavlm_attention
from harmonifuse_espnet.model.encoders.conv_features import ReceptiveField, extract_by_chunk
from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit
from harmonifuse_espnet.model.encoders.packed_attention import group_calls
from harmonifuse_espnet.model.encoders.wavlm_attention import GatedPackedAttention


@pytest.mark.parametrize(("kind", "expected"), [("cpu", 3), ("cuda", 7), ("mps", 7), ("xpu", 7), ("meta", 7)])
def test_every_device_has_a_limit(kind: str, expected: int) -> None:
    assert DeviceLimit(cpu=3, accelerator=7).on(torch.device(kind)) == expected


def test_attention_is_computed_on_a_device_that_is_neither_cpu_nor_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device computes shapes; utterances of equal length are one call by the accelerator's limit."""
    monkeypatch.setattr(packed_attention, "SCORES_PER_CALL", DeviceLimit(cpu=1, accelerator=2 * 2 * 5**2))
    monkeypatch.setattr(wavlm_attention, "BIASES_AT_A_TIME", DeviceLimit(cpu=0, accelerator=2 * 2 * 16))
    meta = torch.device("meta")
    assert [call.stop for call in group_calls([5, 5, 5], heads=2, device=meta)] == [10, 15]
    with meta:
        module = WavLMAttention(16, 2, num_buckets=32, max_distance=40)
        assert GatedPackedAttention(module, [5, 5, 5])(module, torch.empty(15, 16)).shape == (15, 16)


def test_convolutions_take_the_accelerator_s_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device(nn.Module):
        """Convolutions that record the number of chunks in each call."""

        def forward(self, chunks: torch.Tensor) -> torch.Tensor:
            calls.append(len(chunks))
            return chunks.new_zeros(len(chunks), 4, 2)

    calls: list[int] = []
    monkeypatch.setattr(conv_features, "CHUNK_FRAMES", 2)
    monkeypatch.setattr(conv_features, "CHUNKS_PER_CALL", DeviceLimit(cpu=1, accelerator=3))
    lengths = torch.tensor([80, 80])  # 8 frames of 10 samples: 4 chunks each
    features = extract_by_chunk(Device(), ReceptiveField(10, 10), torch.zeros(2, 80, device="meta"), lengths)
    assert calls == [3, 3, 2] and features.shape == (2, 8, 4)
