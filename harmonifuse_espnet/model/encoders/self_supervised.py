"""Self-supervised encoders from Hugging Face: WavLM, HuBERT and wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.activations import BatchShape, Precision, attention_scores
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

    Utterances run without padding: concatenated through the Transformer, and in chunks through the convolutions, or one
    by one if the first convolution is normalised over time (``feat_extract_norm: group``, the base models). In the
    large models the last state is before the final norm, as in Hugging Face's ``hidden_states``.

    Example:
        >>> import torch
        >>> config = {"model_type": "wavlm", "num_hidden_layers": 2, "feat_extract_norm": "layer"}
        >>> states, lengths = SelfSupervisedEncoder(config=config)(torch.randn(1, 16000), torch.tensor([16000]))
        >>> [state.shape for state in states], lengths
        ([torch.Size([1, 49, 768]), torch.Size([1, 49, 768])], tensor([49]))
    """

    choice = "huggingface"
    model_types = tuple(ATTENTION)
    alternative = "for Whisper, use the frontend whisper"
    overrides = {"layerdrop": 0.0, "apply_spec_augment": False}

    def set_up(self, loaded: Any, model: str | None) -> nn.Module:
        """Set the attributes of the subclass, and return the whole model."""
        known = loaded.config
        if model is None:
            self.standardizes = known.feat_extract_norm == "layer"
        else:
            self.standardizes = load_feature_extractor("frontend_conf", AutoFeatureExtractor, model).do_normalize
        self.attention = ATTENTION[known.model_type]
        self.pre_norm = known.do_stable_layer_norm
        self.extract = extract_by_utterance if known.feat_extract_norm == "group" else extract_by_chunk
        self.field = ReceptiveField.of(known.conv_kernel, known.conv_stride)
        return loaded

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of 20 ms; ``lengths`` (B,) in samples -> (B,)."""
        return self.field.num_frames(lengths)

    def preprocess(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Set padding to zero, and standardize if the model's preprocessor does: (B, N), ``lengths`` (B,) -> (B, N).

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
        del features  # or the generator would hold it until its end
        valid = mask.flatten().nonzero()[:, 0]
        hidden = (hidden + encoder.pos_conv_embed(hidden)).flatten(0, 1)[valid]
        hidden = encoder.dropout(hidden if self.pre_norm else encoder.layer_norm(hidden))
        block = pre_norm_block if self.pre_norm else post_norm_block
        attend = self.attention(encoder.layers[0].attention, frames.tolist())
        for layer in encoder.layers:
            hidden = self.run_layer(block, layer, attend, hidden)
            yield unpack(hidden, valid, mask.shape)

    def scores_kept(self, precision: Precision) -> int:
        """As in :class:`HuggingFaceEncoder`; WavLM's bias is kept even if the attention is fused."""
        return super().scores_kept(precision) or int(self.attention.keeps_bias)

    def convolution_bytes(self, samples: int, size: int) -> int:
        """Estimate ``2 a`` bytes for each output of a convolution, the input and output of its GELU.

        ``8 + a`` bytes for a convolution with a norm, which is computed in float32.
        """
        kept, hop = 0.0, 1
        for layer in self.encoder.feature_extractor.conv_layers:
            hop *= layer.conv.stride[0]
            kept += layer.conv.out_channels / hop * (8 + size if hasattr(layer, "layer_norm") else 2 * size)
        return round(kept * samples)

    def working_size(self, batch: BatchShape) -> int:
        """Estimate ``3 * 512 / 5`` values for each sample of one call of the convolutions, and 2 for each score of one
        call of the attention.

        The first are the output, norm and GELU of the first convolution. Both calls are of the size on accelerators.
        """
        scores = attention_scores(self.num_frames(batch.length), self.hidden_size)
        together = min(batch.utterances, max(1, SCORES_PER_CALL.accelerator // scores))
        most = CHUNKS_PER_CALL.accelerator * CHUNK_FRAMES * SAMPLES_PER_FRAME
        samples = min(batch.utterances * batch.length, most)
        return 3 * CHANNELS * samples // STRIDE + 2 * together * scores


def post_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """Run a layer of the base models: (S, D) -> (S, D)."""
    hidden = layer.layer_norm(hidden + layer.dropout(attend(layer.attention, hidden)))
    return layer.final_layer_norm(hidden + layer.feed_forward(hidden))


def pre_norm_block(layer: Any, attend: PackedAttention, hidden: Tensor) -> Tensor:
    """Run a layer of the large models, with the language adapter that MMS models have: (S, D) -> (S, D)."""
    hidden = hidden + layer.dropout(attend(layer.attention, layer.layer_norm(hidden)))
    hidden = hidden + layer.feed_forward(layer.final_layer_norm(hidden))
    adapter = getattr(layer, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def unpack(row: Tensor, valid: Tensor, shape: torch.Size) -> Tensor:
    """Pad the row of all utterances (S, D) to (B, T, D); ``valid`` (S,) are its positions in the flattened (B, T)."""
    if len(row) == shape.numel():
        return row.view(*shape, -1)
    padded = row.new_zeros(shape.numel(), row.size(-1))
    padded[valid] = row
    return padded.view(*shape, -1)


def standardize(speech: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Scale each utterance to zero mean and unit variance, zeros beyond its end: (B, N), ``mask`` (B, N) -> (B, N)."""
    count = lengths[:, None].to(speech.dtype)
    centred = (speech - (speech * mask).sum(1, keepdim=True) / count) * mask
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + 1.0e-7)


def _projected(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Return the projected features; HuBERT's projection returns them alone, the others also their input."""
    return output if isinstance(output, Tensor) else output[0]
