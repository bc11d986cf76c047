"""Memory estimate of a training step, part by part, from the shapes of the model alone.

Each component estimates its own activations (``activation_bytes``); this module adds weights, gradients, optimizer
state and CUDA's own needs. The estimates assume no fragmentation, for which :data:`FRAGMENTATION` is added.
"""

from __future__ import annotations

import torch
from torch import nn

from harmonifuse_espnet.model.activations import BatchShape, Precision
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.pretrained import Pretrained

CUDA_CONTEXT = 800_000_000  # bytes: CUDA's context, the workspaces of cuBLAS and cuDNN
FRAGMENTATION = 0.1  # of the activations
Parts = dict[str, int]  # part of a training step -> bytes


def estimate_memory(
    model: HarmoniFuseModel, batch: BatchShape, precision: Precision, state_bytes: float, ranks: int
) -> Parts:
    """Estimate all parts of a training step; parts of 0 bytes are left out.

    Args:
        model: The model, on the meta device or a real one.
        batch: Batch of one process.
        precision: Device and precision of the training.
        state_bytes: Bytes of optimizer state for each trained parameter (:func:`optimizer_state_bytes`).
        ranks: Number of processes; with more than one, each has a second copy of the gradients.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    parts = {
        "weights": weight_bytes(model, precision.gpu),
        "gradients": 4 * trained * (2 if ranks > 1 else 1),
        "optimizer": round(state_bytes * trained),
    }
    kept = activations(model, batch, precision)
    parts |= kept
    if precision.gpu:
        parts["bfloat16 copies of trained weights"] = 2 * trained if precision.amp else 0
        parts["CUDA context and fragments"] = CUDA_CONTEXT + round(FRAGMENTATION * sum(kept.values()))
    return {part: size for part, size in parts.items() if size}


def activations(model: HarmoniFuseModel, batch: BatchShape, precision: Precision) -> Parts:
    """Estimate the bytes that each part keeps for the backward pass."""
    decoder, utterances = model.decoder, batch.utterances
    frames = model.frontend.num_frames(batch.length)
    stacked = -(-frames // model.connector.stack)
    targets, positions = utterances * batch.tokens, utterances * (batch.prompt + stacked + batch.tokens)
    between = model.gate.activation_bytes(utterances * frames) + model.connector.activation_bytes(utterances * stacked)
    if model.ctc is not None:
        between += model.ctc.activation_bytes(utterances * stacked)
    fused = model.label_output.fused_positions(targets, positions)
    fusion = model.fusion.activation_bytes(fused, decoder.hidden_size)
    return {
        "encoder": model.frontend.activation_bytes(batch, precision),
        "gate, connector, CTC": between,
        "language model": decoder.activation_bytes(positions, precision),
        "fusion and logits": fusion + decoder.logit_bytes(targets, precision),
    }


def weight_bytes(model: nn.Module, gpu: bool) -> int:
    """Return the bytes of the weights: float32, but bfloat16 for frozen pre-trained weights on a GPU."""
    pretrained = [module for module in model.modules() if gpu and isinstance(module, Pretrained)]
    half = {id(weight) for module in pretrained for weight in module.frozen_weights()}
    return sum((2 if id(weight) in half else 4) * weight.numel() for weight in model.parameters())


def optimizer_state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Return the bytes of state for each parameter, measured with one step; the gradients are set to zero."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(value.nbytes for value in kept) / sum(weight.numel() for weight in weights)
