"""How much memory a training step takes, part by part, reckoned before there are weights or a GPU.

Letters as in the package (B utterances, T encoder frames, L encoder layers of width D; M language model layers of width
V, W words in the vocabulary); S positions of the language model, X predicted tokens, C the gate's width, I the
feed-forward width, A and K the widths of all query and all key heads; a the bytes of an activation: 2 where the
language model is held in, or autocast to, bfloat16, else 4. Kept for the backward pass are

* of a trained Conformer ``L B T (32 D + 3 T heads) a``, heads of 64; of any other encoder its states, ``L B T D a``;
* of a pre-trained one that is trained, in each layer, ``8 D + a (9 D + 2 I)`` a frame: the input of both norms in
  float32, their outcome, queries, keys, values, theirs, and the feed-forward's two, with dropout's; further the scores
  (:func:`_scores_kept`), ``8 a D`` a frame before the layers, and ``2 a`` for each number that a convolution makes
  (input of its GELU, and outcome), ``8 + a`` where its norm, in float32, is between. Whisper runs whole windows of
  30 s. A frozen one works with ``307 a`` for each sample of at most 64 s of speech at a time (the first convolution's
  norm, GELU and outcome) and ``2 a`` for each score of a call, Whisper's with a layer's ``a (4 D + 2 I)`` a frame;
* of gate, connector and CTC head ``B T (3 D + 8 C) 4 + B T' (4 V + 3 W_ctc) 4``;
* of each language model layer, at every one of B S positions, ``8 V + a (2 A + 2 K + 3 I)``: the input of both norms in
  float32, queries, keys, values, their outcome, and the gated feed-forward's three factors; further the inputs of what
  is trained: ``4 in_features`` of each projection with LoRA, or ``a (4 V + I)`` if all is trained. With gradient
  checkpointing (the encoder's too) layers' inputs ``a V`` are kept, and the above for one layer at a time;
* of the fusion ``3 M X V 4``, or ``3 M B S V 4`` where a classifier pools it for labels; of the logits
  ``X W (a + 12)``: logits, in float32, log-probabilities, gradient.

Reckoned without the allocator's fragments, for which ``CONTEXT`` and ``FRAGMENTS`` are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.model.encoders.precomputed import PrecomputedEncoder
from harmonifuse_espnet.model.encoders.whisper import WhisperEncoder
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.outputs import HeadOutput
from harmonifuse_espnet.model.pretrained import Pretrained

CONTEXT = 800_000_000  # bytes: CUDA's context, cuBLAS's and cuDNN's workspaces
FRAGMENTS = 0.1  # share of the activations
SAMPLES_PER_FRAME = 320  # of WavLM, HuBERT, wav2vec 2.0 and Whisper
CHANNELS, STRIDE = 512, 5  # of the first convolution of WavLM, HuBERT and wav2vec 2.0
PIECES = 64 * 16000  # samples that go through the convolutions at a time, on a GPU
Parts = dict[str, int]  # part of a training step -> bytes


@dataclass(frozen=True)
class BatchShape:
    """A batch: ``utterances``, each of ``length`` samples (or dumped frames) and ``tokens``, with ``prompt`` tokens.

    ``prompt`` counts all tokens around the speech: preamble, prompt and opening.
    """

    utterances: int
    length: int
    tokens: int
    prompt: int


@dataclass(frozen=True)
class Precision:
    """Where and how a model is trained: on a ``gpu``, with ESPnet's ``use_amp``."""

    gpu: bool
    amp: bool

    def activation(self, part: nn.Module) -> int:
        """Bytes of an activation in a part of the model."""
        return 2 if self.gpu and (self.amp or isinstance(part, Pretrained) and part.frozen) else 4


def estimate_memory(
    model: HarmoniFuseModel, batch: BatchShape, precision: Precision, state_bytes: float, ranks: int
) -> Parts:
    """All parts of a training step.

    Args:
        model: On the meta device, or a real one.
        batch: Of one process.
        precision: Of the training.
        state_bytes: Of the optimizer, for each trained parameter.
        ranks: Processes that train together; more than one keep a second copy of the gradients.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    parts = {
        "weights": _weights(model, precision.gpu),
        "gradients": 4 * trained * (2 if ranks > 1 else 1),
        "optimizer": round(state_bytes * trained),
    }
    kept = activations(model, batch, precision)
    parts |= kept
    if precision.gpu:
        parts["bfloat16 copies of trained weights"] = 2 * trained if precision.amp else 0
        parts["CUDA context and fragments"] = CONTEXT + round(FRAGMENTS * sum(kept.values()))
    return {part: size for part, size in parts.items() if size}


def activations(model: HarmoniFuseModel, batch: BatchShape, precision: Precision) -> Parts:
    """What a step keeps for its backward pass; the formulas are in the module's docstring."""
    connector: Any = model.connector
    gated: Any = model.gate.linguistic
    frames = frames_of(model.frontend, batch.length)
    stacked: int = -(-frames // connector.stack)
    positions = batch.utterances * (batch.prompt + stacked + batch.tokens)
    words = model.ctc.project.out_features if model.ctc is not None else 0
    size: Any = model.frontend.hidden_size
    width = model.decoder.hidden_size
    gate = frames * (3 * size + 8 * gated.out_features) + stacked * (4 * width + 3 * words)
    return {
        "encoder": _encoder(model.frontend, batch, frames, precision),
        "gate, connector, CTC": 4 * batch.utterances * gate,
        "language model": _language_model(model, positions, precision.activation(model.decoder)),
        "fusion and logits": _fusion_and_logits(
            model, batch.utterances * batch.tokens, positions, precision.activation(model.decoder)
        ),
    }


def frames_of(frontend: Any, length: int) -> int:
    """Encoder frames of an utterance of ``length`` samples (or dumped frames)."""
    if isinstance(frontend, PrecomputedEncoder):
        return length
    if isinstance(frontend, ConformerEncoder):
        features = length // frontend.logmel.hop_length + 1 if frontend.logmel else length
        return -(-features // frontend.subsampling.factor)
    return length // SAMPLES_PER_FRAME


def _weights(model: nn.Module, gpu: bool) -> int:
    """Frozen weights of pre-trained models are bfloat16 on a GPU, all else is float32."""
    half = {
        id(weight)
        for module in model.modules()
        if gpu and isinstance(module, Pretrained) and module.frozen
        for weight in module.parameters()
        if not weight.requires_grad
    }
    return sum((2 if id(weight) in half else 4) * weight.numel() for weight in model.parameters())


def _encoder(frontend: Any, batch: BatchShape, frames: int, precision: Precision) -> int:
    layers, width, size = frontend.num_layers, frontend.hidden_size, precision.activation(frontend)
    states = layers * batch.utterances * frames * width * size
    trained = any(weight.requires_grad for weight in frontend.parameters())
    if isinstance(frontend, HuggingFaceEncoder):
        if trained:
            return states + _trained_encoder(frontend, batch, frames, precision)
        return states + _frozen_encoder(frontend, batch, frames) * size
    if trained:
        return layers * batch.utterances * (32 * width * frames + 3 * _scores(frames, width)) * size
    return states


def _trained_encoder(frontend: Any, batch: BatchShape, frames: int, precision: Precision) -> int:
    """What autograd keeps, the states that are handed out not among it."""
    layers, width, size = frontend.num_layers, frontend.hidden_size, precision.activation(frontend)
    rows, length = _rows(frontend, batch, frames)
    entered = rows * length * width * size  # a layer's input
    layer = rows * length * (8 * width + size * (9 * width + 2 * _inner(frontend.encoder.config)))
    layer += rows * _scores(length, width) * _scores_kept(frontend, precision) * size
    before = 8 * entered + _convolutions(frontend, batch.utterances * batch.length, size)
    return before + (layers * entered + layer if frontend.gradient_checkpointing else layers * layer)


def _frozen_encoder(frontend: Any, batch: BatchShape, frames: int) -> int:
    """Numbers that it works with at a time."""
    rows, length = _rows(frontend, batch, frames)
    if isinstance(frontend, WhisperEncoder):
        return rows * length * (4 * frontend.hidden_size + 2 * _inner(frontend.encoder.config))
    scores = _scores(length, frontend.hidden_size)
    together = min(rows, max(1, 2**26 // scores))
    samples = min(batch.utterances * batch.length, PIECES)
    return 3 * CHANNELS * samples // STRIDE + 2 * together * scores


def _rows(frontend: Any, batch: BatchShape, frames: int) -> tuple[int, int]:
    """How many rows pass the layers, and their frames: the utterances, or Whisper's windows."""
    if isinstance(frontend, WhisperEncoder):
        window = frontend.logmel.samples
        return batch.utterances * -(-batch.length // window), window // SAMPLES_PER_FRAME
    return batch.utterances, frames


def _scores(frames: int, width: int) -> int:
    """Attention scores of an utterance in a layer, with heads of 64."""
    return max(1, frames * frames * width // 64)


def _scores_kept(frontend: Any, precision: Precision) -> int:
    """Fused attention keeps no scores, only WavLM's bias; PyTorch's for the CPU isn't fused where there is dropout."""
    known = frontend.encoder.config
    if known.attention_dropout and not precision.gpu:
        return 3
    return 1 if known.model_type == "wavlm" else 0


def _convolutions(frontend: Any, samples: int, size: int) -> int:
    """Bytes that trained convolutions of the wav2vec 2.0 family keep; those of Whisper are few."""
    kept, hop = 0.0, 1
    for layer in [] if isinstance(frontend, WhisperEncoder) else frontend.encoder.feature_extractor.conv_layers:
        hop *= layer.conv.stride[0]
        kept += layer.conv.out_channels / hop * (8 + size if hasattr(layer, "layer_norm") else 2 * size)
    return round(kept * samples)


def _language_model(model: HarmoniFuseModel, positions: int, size: int) -> int:
    llm = model.decoder.llm
    layers, width, inner = model.decoder.num_layers, model.decoder.hidden_size, _inner(llm.config)
    head = getattr(llm.config, "head_dim", None) or width // llm.config.num_attention_heads
    queries = head * llm.config.num_attention_heads
    keys = head * getattr(llm.config, "num_key_value_heads", llm.config.num_attention_heads)
    layer = 8 * width + size * (2 * queries + 2 * keys + 3 * inner)
    adapted = sum(module.in_features for module in llm.modules() if isinstance(module, LoraLayer))
    if adapted:
        layer += 4 * adapted // layers
    elif any(weight.requires_grad for weight in llm.parameters()):
        layer += size * (4 * width + inner)
    if model.decoder.gradient_checkpointing:
        return positions * (layers * size * width + layer)
    return positions * layers * layer


def _inner(config: Any) -> int:
    """Width of the feed-forward."""
    return getattr(config, "intermediate_size", None) or 4 * config.hidden_size


def _fusion_and_logits(model: HarmoniFuseModel, predicted: int, positions: int, size: int) -> int:
    fused = positions if isinstance(model.label_output, HeadOutput) else predicted
    fusion = 12 * (len(model.fusion.norms) + 1) * model.decoder.hidden_size
    return fused * fusion + predicted * (size + 12) * model.decoder.llm.config.vocab_size


def optimizer_state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Bytes that an optimizer keeps for each parameter: found by a step on parameters that are zero."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(value.nbytes for value in kept) / sum(weight.numel() for weight in weights)
