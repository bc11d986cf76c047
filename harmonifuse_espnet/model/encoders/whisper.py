"""Whisper's encoder (Radford et al., 2022, arXiv:2212.04356)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.activations import BatchShape
from harmonifuse_espnet.model.encoders.hugging_face import SAMPLES_PER_FRAME, HuggingFaceEncoder
from harmonifuse_espnet.model.pretrained import feed_forward_width, load_feature_extractor


class WhisperLogMel(nn.Module):
    """The log-mel features of a ``WhisperFeatureExtractor``, computed on the device of the waveform.

    ``x = log10 max(mel, 1e-10)``, ``y = max(x, max(x) - 8)`` with the maximum of the window, and ``(y + 4) / 4``.

    Args:
        extractor: Feature extractor that defines the sizes and mel filters.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        super().__init__()
        self.n_fft, self.hop_length = extractor.n_fft, extractor.hop_length
        self.samples: int = extractor.n_samples
        self.register_buffer("window", torch.hann_window(extractor.n_fft), persistent=False)
        filters = torch.as_tensor(extractor.mel_filters, dtype=torch.float32)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the features of 30 s windows in [-1, 1], (X, N) -> (X, n_mels, 3000)."""
        window = self.window.float()
        spectrum = torch.stft(windows.float(), self.n_fft, self.hop_length, window=window, return_complex=True)
        mel = self.filters.float().T @ spectrum[..., :-1].abs().square()
        log = mel.clamp(min=1.0e-10).log10()
        return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


class WhisperEncoder(HuggingFaceEncoder):
    """The encoder of a Whisper model, without its decoder.

    Whisper was trained on windows of 30 s. Utterances are padded with silence to whole windows, encoded window by
    window, and the states cut to the utterance's length. The last state is after the encoder's final norm, as in
    Hugging Face's ``hidden_states``.

    Example:
        >>> encoder = WhisperEncoder(config={"model_type": "whisper", "encoder_layers": 2, "d_model": 48})
        >>> states, lengths = encoder(torch.randn(1, 16000), torch.tensor([16000]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 50, 48]), torch.Size([1, 50, 48])], tensor([50]))
    """

    frontend = "whisper"
    model_types = ("whisper",)
    remedy = "for WavLM, HuBERT and wav2vec 2.0, use the frontend huggingface"
    overrides = {"encoder_layerdrop": 0.0}

    def select_encoder(self, loaded: Any, model: str | None) -> nn.Module:
        """Return the encoder without the decoder, and set the attributes of the subclass."""
        loaded.encoder.embed_positions.requires_grad_(False)  # sinusoids, which loading makes trainable
        self.logmel = WhisperLogMel(
            WhisperFeatureExtractor(feature_size=loaded.config.num_mel_bins)
            if model is None
            else load_feature_extractor("frontend_conf", WhisperFeatureExtractor, model)
        )
        return loaded.encoder

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of 20 ms, rounded up; ``lengths`` (B,) in samples -> (B,)."""
        return (lengths + 2 * self.logmel.hop_length - 1).div(2 * self.logmel.hop_length, rounding_mode="floor")

    def window_mask(self, lengths: Tensor) -> Tensor:
        """Return a mask (B, windows of the longest utterance), True at the windows of each utterance.

        ``lengths`` (B,) is in samples.
        """
        counts = -(-lengths // self.logmel.samples)
        return length_mask(counts, int(counts.max()))

    def preprocess(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Compute the log-mel features of all X windows: ``speech`` (B, N), ``lengths`` (B,) -> (X, n_mels, 3000)."""
        mask = self.window_mask(lengths)
        speech = speech * length_mask(lengths, speech.size(1))
        padded = F.pad(speech, (0, mask.size(1) * self.logmel.samples - speech.size(1)))
        return self.logmel(padded.unflatten(1, (-1, self.logmel.samples))[mask])

    def hidden_states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Run the encoder on ``inputs`` (X, n_mels, 3000), ``lengths`` (B,) in samples -> L states (B, T, D)."""
        encoder, frames, windows = self.encoder, self.frame_lengths(lengths), self.window_mask(lengths)
        mask = length_mask(frames, int(frames.max()))[..., None]
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(inputs)))).transpose(1, 2) + encoder.embed_positions.weight
        hidden = F.dropout(hidden, encoder.dropout, encoder.training)
        for number, layer in enumerate(encoder.layers, start=1):
            hidden = self.run_layer(layer, hidden, None)
            state = encoder.layer_norm(hidden) if number == self.num_layers else hidden
            by_utterance = state.new_zeros(*windows.shape, *state.shape[1:])
            by_utterance[windows] = state
            yield by_utterance.flatten(1, 2)[:, : mask.size(1)] * mask

    def layer_input_size(self, batch: BatchShape) -> tuple[int, int]:
        """Return the number of windows of all utterances, and the frames of a window."""
        window = self.logmel.samples
        return batch.utterances * -(-batch.length // window), window // SAMPLES_PER_FRAME

    def workspace_size(self, batch: BatchShape) -> int:
        """Estimate the values of one layer, ``4 D + 2 I`` per frame."""
        rows, frames = self.layer_input_size(batch)
        return rows * frames * (4 * self.hidden_size + 2 * feed_forward_width(self.encoder.config))
