"""Pre-trained speech encoders of Hugging Face, run layer by layer.

The states come from an iterator that runs a layer when it is asked for the next state, so that whoever sums them needs
one at a time. They are Hugging Face's ``hidden_states[1:]``: each layer's output as the next one reads it, the
embedding (index 0) left out, and in the large models no norm after the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.conv_features import ReceptiveField, by_pieces, by_utterance
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.model.encoders.packed_attention import PackedAttention
from harmonifuse_espnet.model.encoders.wavlm_attention import GatedPackedAttention
from harmonifuse_espnet.model.pretrained import load_pretrained

ATTENTION: dict[str, type[PackedAttention]] = {
    "wavlm": GatedPackedAttention,
    "hubert": PackedAttention,
    "wav2vec2": PackedAttention,
}


class SelfSupervisedEncoder(HuggingFaceEncoder):
    """A WavLM, HuBERT or wav2vec 2.0 encoder.

    Utterances run without padding: one after another through the Transformer, and in pieces through the convolutions,
    or one by one where the first convolution is normalised over time (``feat_extract_norm: group``, the base models).

    Args:
        model: Name on the hub or a folder; its weights are loaded. None with ``config`` for random weights.
        config: ``{"model_type": "wavlm", ...}``, the fields of the Hugging Face configuration.
        freeze: Run it without gradients, in eval mode, and leave its weights out of checkpoints when they can be
            loaded again from ``model``.
        gradient_checkpointing: Trade time for memory when it is trained.

    Example:
        >>> config = {"model_type": "wavlm", "num_hidden_layers": 2, "feat_extract_norm": "layer"}
        >>> states, lengths = SelfSupervisedEncoder(config=config)(torch.randn(1, 16000), torch.tensor([16000]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 49, 768]), torch.Size([1, 49, 768])], tensor([49]))

    Raises:
        ValueError: if not exactly one of ``model`` and ``config`` is given, or the model is of another family.
    """

    def __init__(
        self,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        overrides = {"layerdrop": 0.0, "apply_spec_augment": False}
        encoder = load_pretrained("frontend_conf", AutoModel, model, config, **overrides)
        known = encoder.config
        if known.model_type not in ATTENTION:
            raise InputError(
                f"frontend_conf: {model or 'config'} is of type {known.model_type}, the frontend huggingface runs "
                f"{', '.join(ATTENTION)}; for Whisper, take the frontend whisper"
            )
        super().__init__(
            encoder, known.num_hidden_layers, known.hidden_size, freeze, model is not None, gradient_checkpointing
        )
        self.standardizes = (
            known.feat_extract_norm == "layer"
            if model is None
            else AutoFeatureExtractor.from_pretrained(model).do_normalize
        )
        self.attention = ATTENTION[known.model_type]
        self.pre_norm = known.do_stable_layer_norm
        self.extract = by_utterance if known.feat_extract_norm == "group" else by_pieces
        self.field = ReceptiveField.of(known.conv_kernel, known.conv_stride)

    def frames(self, lengths: Tensor) -> Tensor:
        """Samples (B,) -> frames of 20 ms (B,)."""
        return self.field.frames(lengths)

    def prepare(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Standardised where the model's preprocessor does so; silent beyond the end: (B, N) -> (B, N).

        Raises:
            ValueError: if an utterance is shorter than a frame.
        """
        shortest = int(lengths.min())
        if shortest < self.field.size:
            raise InputError(
                f"an utterance of {shortest} samples is shorter than a frame of the encoder, {self.field.size}; "
                "drop such utterances"
            )
        mask = length_mask(lengths, speech.size(1))
        return standardize(speech, mask, lengths) if self.standardizes else speech * mask

    def states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """``inputs`` (B, N), ``lengths`` (B,) in samples -> L states (B, T, D)."""
        encoder, frames = self.encoder.encoder, self.frames(lengths)
        features = self.extract(self.encoder.feature_extractor, self.field, inputs, lengths)
        mask = length_mask(frames, features.size(1))
        hidden = _first(self.encoder.feature_projection(features)) * mask[..., None]
        del features  # this frame lives as long as the states are asked for
        valid = mask.flatten().nonzero()[:, 0]
        hidden = (hidden + encoder.pos_conv_embed(hidden)).flatten(0, 1)[valid]
        hidden = encoder.dropout(hidden if self.pre_norm else encoder.layer_norm(hidden))
        block = pre_norm_block if self.pre_norm else post_norm_block
        attend = self.attention(encoder.layers[0].attention, frames.tolist())
        for layer in encoder.layers:
            hidden = self.run_layer(block, layer, attend, hidden)
            yield unpack(hidden, valid, mask.shape)


def post_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """A layer of the base models: (S, D) -> (S, D)."""
    hidden = layer.layer_norm(hidden + layer.dropout(attend(layer.attention, hidden)))
    return layer.final_layer_norm(hidden + layer.feed_forward(hidden))


def pre_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """A layer of the large models, with a language's adapter where MMS has one: (S, D) -> (S, D)."""
    hidden = hidden + layer.dropout(attend(layer.attention, layer.layer_norm(hidden)))
    hidden = hidden + layer.feed_forward(layer.final_layer_norm(hidden))
    adapter = getattr(layer, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def unpack(row: Tensor, valid: Tensor, shape: torch.Size) -> Tensor:
    """The row of all utterances (S, D) -> (B, T, D), ``valid`` (S,) the places in the flattened ``shape`` (B, T)."""
    if len(row) == shape.numel():
        return row.view(*shape, -1)
    padded = row.new_zeros(shape.numel(), row.size(-1))
    padded[valid] = row
    return padded.view(*shape, -1)


def standardize(speech: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean, unit variance over each utterance's valid samples, zeros beyond: (B, N) -> (B, N)."""
    count = lengths[:, None].to(speech.dtype)
    centred = (speech - (speech * mask).sum(1, keepdim=True) / count) * mask
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + 1.0e-7)


def _first(projected: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """HuBERT's projection gives a tensor, those of its relatives also what was projected."""
    return projected if isinstance(projected, Tensor) else projected[0]
