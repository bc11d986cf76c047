"""Base class of the pre-trained encoders from Hugging Face."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.activations import BatchShape, Precision, num_attention_scores
from harmonifuse_espnet.model.encoders.base import SpeechEncoder
from harmonifuse_espnet.model.pretrained import Pretrained, feed_forward_width, load_pretrained

SAMPLES_PER_FRAME = 320  # of WavLM, HuBERT, wav2vec 2.0 and Whisper


class HuggingFaceEncoder(SpeechEncoder, Pretrained):
    """Base class: a pre-trained encoder from Hugging Face that runs layer by layer.

    The states are a lazy iterator that runs one layer per item, so that a weighted sum keeps one state in memory, not
    L. They equal Hugging Face's ``hidden_states[1:]``, without the embedding (index 0).

    Args:
        model: Name on the Hugging Face Hub or folder of the pre-trained model; None with ``config``.
        config: Fields of the Hugging Face configuration for random weights, such as ``{"model_type": "wavlm"}``.
        freeze: Run without gradients and in eval mode. Frozen weights that were loaded from ``model`` are left out of
            checkpoints.
        gradient_checkpointing: In training, recompute each layer in the backward pass instead of keeping its
            activations: less memory, more time.

    Attributes:
        frontend: Name of the class in the option ``frontend``.
        model_types: Supported values of ``model_type``.
        remedy: Remedy for other model types, for error messages.
        overrides: Fields of the configuration to change.

    Raises:
        InputError: if not exactly one of ``model`` and ``config`` is given, or the model is of another type.
        MissingFileError: if the model does not exist.
    """

    frame_shift = 0.02
    frontend: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    remedy: ClassVar[str]
    overrides: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        loaded = load_pretrained("frontend_conf", AutoModel, model, config, **self.overrides)
        model_type = loaded.config.model_type
        if model_type not in self.model_types:
            raise InputError(
                f"frontend_conf: {model or 'config'} is of type {model_type}, the frontend {self.frontend} supports "
                f"{', '.join(self.model_types)}; {self.remedy}"
            )
        self.num_layers, self.hidden_size = loaded.config.num_hidden_layers, loaded.config.hidden_size
        self.frozen, self.restorable = freeze, freeze and model is not None
        self.gradient_checkpointing = gradient_checkpointing
        self.encoder: Any = self.select_encoder(loaded, model)
        if freeze:
            self.encoder.requires_grad_(False)

    @abstractmethod
    def select_encoder(self, loaded: Any, model: str | None) -> nn.Module:
        """Return the encoder, ``loaded`` or a part of it, and set the attributes of the subclass."""

    @abstractmethod
    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of each utterance; ``lengths`` (B,) in samples -> (B,)."""

    @abstractmethod
    def preprocess(self, speech: Tensor, lengths: Tensor) -> Tensor:
        """Return the encoder's input in float32, for ``speech`` (B, N) in float32 and ``lengths`` (B,) in samples."""

    @abstractmethod
    def hidden_states(self, inputs: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Run the encoder on preprocessed ``inputs``; ``lengths`` (B,) in samples -> L states (B, T, D)."""

    def train(self, mode: bool = True) -> HuggingFaceEncoder:
        """Set the training mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Iterator[Tensor], Tensor]:
        """Encode ``speech`` (B, N) at 16 kHz, ``lengths`` (B,) in samples -> L states (B, T, D), lengths in frames.

        States are zero at padding and have the dtype of the weights.
        """
        with torch.no_grad(), torch.autocast(speech.device.type, enabled=False):
            inputs = self.preprocess(speech.float(), lengths).to(next(self.encoder.parameters()).dtype)
        states = self.hidden_states(inputs, lengths)
        return without_grad(states, speech.device.type) if self.frozen else states, self.frame_lengths(lengths)

    def run_layer(self, layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Return ``layer(*inputs)``, with gradient checkpointing if enabled."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def num_frames(self, length: int) -> int:
        """Return ``length // 320``, the number of 20 ms frames, which can be off by one."""
        return length // SAMPLES_PER_FRAME

    def activation_bytes(self, batch: BatchShape, precision: Precision) -> int:
        """Estimate the bytes kept for the backward pass, or the states and workspace of a frozen encoder.

        The states have ``L B T D a`` bytes. A frozen encoder also needs :meth:`workspace_size` values. For a trained
        encoder, autograd also keeps

        * before the layers, ``8 a D`` bytes per frame, and :meth:`convolution_bytes`;
        * in each layer, ``8 D + a (9 D + 2 I)`` bytes per frame: the inputs of both norms in float32; their outputs,
          queries, keys, values, attention output and its projection; two tensors of the feed-forward width; dropout
          masks;
        * in each layer, ``saved_scores a T T D / 64`` bytes per utterance (:meth:`saved_scores`, heads of width 64).

        Gradient checkpointing keeps the input of each layer (``a D`` bytes per frame), and the above for one layer.
        """
        layers, size = self.num_layers, precision.element_size(self)
        states = layers * batch.utterances * self.num_frames(batch.length) * self.hidden_size * size
        if not any(weight.requires_grad for weight in self.parameters()):
            return states + self.workspace_size(batch) * size
        rows, frames = self.layer_input_size(batch)
        entered = rows * frames * self.hidden_size * size
        inner = feed_forward_width(self.encoder.config)
        layer = rows * frames * (8 * self.hidden_size + size * (9 * self.hidden_size + 2 * inner))
        layer += rows * num_attention_scores(frames, self.hidden_size) * self.saved_scores(precision) * size
        before = 8 * entered + self.convolution_bytes(batch.utterances * batch.length, size)
        return states + before + (layers * entered + layer if self.gradient_checkpointing else layers * layer)

    def layer_input_size(self, batch: BatchShape) -> tuple[int, int]:
        """Return the number of sequences in the input of the layers, and their length in frames."""
        return batch.utterances, self.num_frames(batch.length)

    def saved_scores(self, precision: Precision) -> int:
        """Return how many tensors of the size of the attention scores autograd keeps in a layer.

        Fused attention keeps none; with dropout, PyTorch's attention on the CPU is not fused.
        """
        return 3 if self.encoder.config.attention_dropout and not precision.gpu else 0

    def convolution_bytes(self, samples: int, size: int) -> int:
        """Estimate the bytes that trained convolutions keep for ``samples`` samples, with ``size`` bytes per value."""
        return 0

    @abstractmethod
    def workspace_size(self, batch: BatchShape) -> int:
        """Estimate the number of temporary values of a frozen encoder, without the states."""


def without_grad(states: Iterator[Tensor], device: str) -> Iterator[Tensor]:
    """Run a generator without gradients and autocast (autocast would run the norms of a bfloat16 model in float32).

    The settings of the caller apply between two states.
    """
    while True:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            state = next(states, None)
        if state is None:
            return
        yield state
