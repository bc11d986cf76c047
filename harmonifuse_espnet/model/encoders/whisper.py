"""Whisper's encoder (Radford et al., 2022, arXiv:2212.04356) as a frontend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, WhisperFeatureExtractor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.model.pretrained import load_pretrained


class WhisperLogMel(nn.Module):
    """The log-mel features of a ``WhisperFeatureExtractor``, on the device that the waveform is on.

    ``x = log10 max(mel, 1e-10)``, raised to at least 8 below the utterance's greatest, then ``(x + 4) / 4``.
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
        """``windows`` (W, N) of 30 s in [-1, 1] -> (W, n_mels, 3000)."""
        window = self.window.float()
        spectrum = torch.stft(windows.float(), self.n_fft, self.hop_length, window=window, return_complex=True)
        mel = self.filters.float().T @ spectrum[..., :-1].abs().square()
        log = mel.clamp(min=1.0e-10).log10()
        return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


class WhisperEncoder(HuggingFaceEncoder):
    """The encoder of a Whisper model; its decoder is dropped.

    Whisper was trained on 30 s, padded by silence: every utterance is, and its states are cut to its own frames; one
    that is longer is heard in windows of 30 s, one after another. The last state is after the encoder's final norm, as
    in Hugging Face's ``hidden_states``.

    Args:
        model: Name on the hub (``openai/whisper-large-v3``) or a folder. None with ``config`` for random weights.
        config: ``{"model_type": "whisper", ...}``, the fields of the Hugging Face configuration.
        freeze: Run it without gradients, in eval mode, and leave its weights out of checkpoints when they can be
            loaded again from ``model``.
        gradient_checkpointing: Trade time for memory when it is trained.

    Example:
        >>> frontend = WhisperEncoder(config={"model_type": "whisper", "encoder_layers": 2, "d_model": 48})
        >>> states, lengths = frontend(torch.randn(1, 16000), torch.tensor([16000]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 50, 48]), torch.Size([1, 50, 48])], tensor([50]))

    Raises:
        ValueError: if not exactly one of ``model`` and ``config`` is given, or the model is no Whisper.
    """

    def __init__(
        self,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        whole = load_pretrained("frontend_conf", AutoModel, model, config, encoder_layerdrop=0.0)
        known = whole.config
        if known.model_type != "whisper":
            raise InputError(
                f"frontend_conf: {model or 'config'} is of type {known.model_type}, the frontend whisper runs whisper; "
                "for WavLM, HuBERT and wav2vec 2.0, take the frontend huggingface"
            )
        whole.encoder.embed_positions.requires_grad_(False)  # sinusoids; loading forgets that they are fixed
        super().__init__(
            whole.encoder, known.encoder_layers, known.d_model, freeze, model is not None, gradient_checkpointing
        )
        self.logmel = WhisperLogMel(
            WhisperFeatureExtractor(feature_size=known.num_mel_bins)
            if model is None
            else WhisperFeatureExtractor.from_pretrained(model)
        )

    def frames(self, lengths: Tensor) -> Tensor:
        """Samples (B,) -> frames of 20 ms (B,), a last one for the rest."""
        return (lengths + 2 * self.logmel.hop_length - 1).div(2 * self.logmel.hop_length, rounding_mode="floor")

    def windows(self, lengths: Tensor) -> Tensor:
        """Samples (B,) -> mask (B, most windows of an utterance), True at each utterance's windows of 30 s."""
        counts = -(-lengths // self.logmel.samples)
        return length_mask(counts, int(counts.max()))

    def prepare(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Log-mel features of the W windows of all utterances: (B, N) -> (W, n_mels, 3000)."""
        mask = self.windows(lengths)
        speech = speech * length_mask(lengths, speech.size(1))
        padded = F.pad(speech, (0, mask.size(1) * self.logmel.samples - speech.size(1)))
        return self.logmel(padded.unflatten(1, (-1, self.logmel.samples))[mask])

    def states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """``inputs`` (W, n_mels, 3000), ``lengths`` (B,) in samples -> L states (B, T, D)."""
        encoder, frames, windows = self.encoder, self.frames(lengths), self.windows(lengths)
        mask = length_mask(frames, int(frames.max()))[..., None]
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(inputs)))).transpose(1, 2) + encoder.embed_positions.weight
        hidden = F.dropout(hidden, encoder.dropout, encoder.training)
        for number, layer in enumerate(encoder.layers, start=1):
            hidden = self.run_layer(layer, hidden, None)
            seen = encoder.layer_norm(hidden) if number == self.num_layers else hidden
            joined = seen.new_zeros(*windows.shape, *seen.shape[1:])
            joined[windows] = seen
            yield joined.flatten(1, 2)[:, : mask.size(1)] * mask
