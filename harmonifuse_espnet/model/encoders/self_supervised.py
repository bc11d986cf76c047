"""Self-supervised encoders from Hugging Face: WavLM, HuBERT and wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.activations import BatchShape, Precision, num_attention_scores
from harmonifuse_espnet.model.encoders.conv_features import (
    CHUNK_FRAMES,
    CHUNKS_PER_CALL,
    ReceptiveField,
    extract_by_chunk,
    extract_by_utterance,
)
from harmonifuse_espnet.model.encoders.hugging_face import SAMPLES_PER_FRAME, HuggingFaceEncoder
from harmonifuse_espnet.model.encoders.packed_attention import SCORES_PER_CALL, PackedAttention
from harmonifuse_espnet.model.encoders.wavlm_attention import GatedPackedAttention
from harmonifuse_espnet.model.pretrained import load_feature_extractor

ATTENTION: dict[str, type[PackedAttention]] = {
    "wavlm": GatedPackedAttention,
    "hubert": PackedAttention,
    "wav2vec2": PackedAttention,
}
CHANNELS, STRIDE = 512, 5  # of the first convolution of published models, for the memory estimate


class SelfSupervisedEncoder(HuggingFaceEncoder):
    """A WavLM, HuBERT or wav2vec 2.0 encoder.

    Padding is not computed: the convolutions run on chunks, or on single utterances if the first one is normalised over
    time (``feat_extract_norm: group``, the base models); the Transformer runs on the concatenated utterances. In the
    large models, the last state is before the final norm, as in Hugging Face's ``hidden_states``.

    Example:
        >>> import torch
        >>> config = {"model_type": "wavlm", "num_hidden_layers": 2, "feat_extract_norm": "layer"}
        >>> states, lengths = SelfSupervisedEncoder(config=config)(torch.randn(1, 16000), torch.tensor([16000]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 49, 768]), torch.Size([1, 49, 768])], tensor([49]))
    """

    frontend = "huggingface"
    model_types = tuple(ATTENTION)
    remedy = "for Whisper, use the frontend whisper"
    overrides = {"layerdrop": 0.0, "apply_spec_augment": False}

    def select_encoder(self, loaded: Any, model: str | None) -> nn.Module:
        """Return the whole model, and set the attributes of the subclass."""
        config = loaded.config
        if model is None:
            self.standardizes = config.feat_extract_norm == "layer"
        else:
            self.standardizes = load_feature_extractor("frontend_conf", AutoFeatureExtractor, model).do_normalize
        self.attention = ATTENTION[config.model_type]
        self.pre_norm = config.do_stable_layer_norm
        self.extract = extract_by_utterance if config.feat_extract_norm == "group" else extract_by_chunk
        self.field = ReceptiveField.of(config.conv_kernel, config.conv_stride)
        return loaded

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of 20 ms; ``lengths`` (B,) in samples -> (B,)."""
        return self.field.num_frames(lengths)

    def preprocess(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Zero the padding, and standardize if the model's preprocessor does: (B, N), ``lengths`` (B,) -> (B, N).

        Raises:
            InputError: if an utterance is shorter than a frame.
        """
        shortest = int(lengths.min())
        if shortest < self.field.size:
            raise InputError(
                f"an utterance of {shortest} samples is shorter than a frame of the encoder, {self.field.size}; "
                "drop such utterances"
            )
        mask = length_mask(lengths, speech.size(1))
        return standardize(speech, mask, lengths) if self.standardizes else speech * mask

    def hidden_states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Run the encoder on ``inputs`` (B, N), ``lengths`` (B,) in samples -> L states (B, T, D)."""
        encoder, frames = self.encoder.encoder, self.frame_lengths(lengths)
        features = self.extract(self.encoder.feature_extractor, self.field, inputs, lengths)
        mask = length_mask(frames, features.size(1))
        hidden = _projected(self.encoder.feature_projection(features)) * mask[..., None]
        del features  # otherwise kept until the generator ends
        valid = mask.flatten().nonzero()[:, 0]
        hidden = (hidden + encoder.pos_conv_embed(hidden)).flatten(0, 1)[valid]
        hidden = encoder.dropout(hidden if self.pre_norm else encoder.layer_norm(hidden))
        block = pre_norm_block if self.pre_norm else post_norm_block
        attend = self.attention(encoder.layers[0].attention, frames.tolist())
        for layer in encoder.layers:
            hidden = self.run_layer(block, layer, attend, hidden)
            yield unpack(hidden, valid, mask.shape)

    def saved_scores(self, precision: Precision) -> int:
        """As in :class:`HuggingFaceEncoder`, but at least 1 for WavLM, whose bias is always kept."""
        return super().saved_scores(precision) or int(self.attention.saves_bias)

    def convolution_bytes(self, samples: int, size: int) -> int:
        """Estimate ``2 a`` bytes per output value of a convolution: the input and output of its GELU.

        With a norm, which is computed in float32, it is ``8 + a`` bytes.
        """
        kept, hop = 0.0, 1
        for layer in self.encoder.feature_extractor.conv_layers:
            hop *= layer.conv.stride[0]
            kept += layer.conv.out_channels / hop * (8 + size if hasattr(layer, "layer_norm") else 2 * size)
        return round(kept * samples)

    def workspace_size(self, batch: BatchShape) -> int:
        """Estimate the values of one call of the convolutions and one of the attention, of the size on accelerators.

        They are ``3 * 512 / 5`` per sample (output, norm and GELU of the first convolution) and 2 per attention score.
        """
        scores = num_attention_scores(self.num_frames(batch.length), self.hidden_size)
        together = min(batch.utterances, max(1, SCORES_PER_CALL.accelerator // scores))
        most = CHUNKS_PER_CALL.accelerator * CHUNK_FRAMES * SAMPLES_PER_FRAME
        samples = min(batch.utterances * batch.length, most)
        return 3 * CHANNELS * samples // STRIDE + 2 * together * scores


def post_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """Run a layer of the base models: (S, D) -> (S, D)."""
    hidden = layer.layer_norm(hidden + layer.dropout(attend(layer.attention, hidden)))
    return layer.final_layer_norm(hidden + layer.feed_forward(hidden))


def pre_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """Run a layer of the large models, with the language adapter of MMS models: (S, D) -> (S, D)."""
    hidden = hidden + layer.dropout(attend(layer.attention, layer.layer_norm(hidden)))
    hidden = hidden + layer.feed_forward(layer.final_layer_norm(hidden))
    adapter = getattr(layer, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def unpack(packed: Tensor, valid: Tensor, shape: torch.Size) -> Tensor:
    """Pad a packed sequence (S, D) to (B, T, D); ``valid`` (S,) are its indices in the flattened (B, T)."""
    if len(packed) == shape.numel():
        return packed.view(*shape, -1)
    padded = packed.new_zeros(shape.numel(), packed.size(-1))
    padded[valid] = packed
    return padded.view(*shape, -1)


def standardize(speech: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Scale each utterance to zero mean and unit variance, with zeros at padding: (B, N), ``mask`` (B, N) -> (B, N)."""
    count = lengths[:, None].to(speech.dtype)
    centred = (speech - (speech * mask).sum(1, keepdim=True) / count) * mask
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + 1.0e-7)


def _projected(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Return the projected features; except for HuBERT, the projection also returns its input."""
    return output if isinstance(output, Tensor) else output[0]
