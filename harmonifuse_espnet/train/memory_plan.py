"""Memory estimate of a training step by part (weights, gradients, activations, ...), from shapes alone.

Each component estimates its own activations (``activation_bytes``); this module adds weights, gradients, optimizer
state, the CUDA context, and :data:`FRAGMENTATION` for memory fragmentation.
"""

from __future__ import annotations

import torch
from torch import nn

from harmonifuse_espnet.model.activations import BatchShape, Precision
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.pretrained import Pretrained
from harmonifuse_espnet.train.parameters import count_parameters, total_counts

CUDA_CONTEXT = 800_000_000  # bytes, with the workspaces of cuBLAS and cuDNN
FRAGMENTATION = 0.1  # fraction of the activations
MemoryByPart = dict[str, int]  # part of a training step -> bytes


def estimate_memory(
    model: HarmoniFuseModel, batch: BatchShape, precision: Precision, state_bytes: float, ranks: int
) -> MemoryByPart:
    """Estimate the memory of a training step by part; parts of 0 bytes are left out.

    Args:
        model: The model, on the meta device or a real one.
        batch: Shape of a batch of one process.
        precision: Device and precision of the training.
        state_bytes: Bytes of optimizer state for each trained parameter (:func:`optimizer_state_bytes`).
        ranks: Number of processes; with more than one, each holds a second copy of the gradients (DDP's buckets).
    """
    _, trained = total_counts(count_parameters(model))
    parts = {
        "weights": weight_bytes(model, precision.gpu),
        "gradients": 4 * trained * (2 if ranks > 1 else 1),
        "optimizer": round(state_bytes * trained),
    }
    kept = estimate_activations(model, batch, precision)
    parts |= kept
    if precision.gpu:
        parts["bfloat16 copies of trained weights"] = 2 * trained if precision.amp else 0
        parts["CUDA context and fragmentation"] = CUDA_CONTEXT + round(FRAGMENTATION * sum(kept.values()))
    return {part: size for part, size in parts.items() if size}


def estimate_activations(model: HarmoniFuseModel, batch: BatchShape, precision: Precision) -> MemoryByPart:
    """Estimate the bytes that each part keeps for the backward pass."""
    decoder, utterances = model.decoder, batch.utterances
    frames = model.frontend.num_frames(batch.length)
    connector_frames = -(-frames // model.connector.stack)
    targets, positions = utterances * batch.tokens, utterances * (batch.prompt + connector_frames + batch.tokens)
    gate_to_ctc = model.gate.activation_bytes(utterances * frames)
    gate_to_ctc += model.connector.activation_bytes(utterances * connector_frames)
    if model.ctc is not None:
        gate_to_ctc += model.ctc.activation_bytes(utterances * connector_frames)
    fused = model.label_output.fused_positions(targets, positions)
    fusion = model.fusion.activation_bytes(fused, decoder.hidden_size)
    return {
        "encoder": model.frontend.activation_bytes(batch, precision),
        "gate, connector, CTC": gate_to_ctc,
        "language model": decoder.activation_bytes(positions, precision),
        "fusion and logits": fusion + decoder.logit_bytes(targets, precision),
    }


def weight_bytes(model: nn.Module, gpu: bool) -> int:
    """Return the bytes of the weights: float32, but bfloat16 for frozen pre-trained weights on a GPU."""
    pretrained = [module for module in model.modules() if gpu and isinstance(module, Pretrained)]
    in_bfloat16 = {id(weight) for module in pretrained for weight in module.frozen_weights()}
    return sum((2 if id(weight) in in_bfloat16 else 4) * weight.numel() for weight in model.parameters())


def optimizer_state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Measure the bytes of optimizer state per parameter, by one step with zero gradients."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(value.nbytes for value in kept) / sum(weight.numel() for weight in weights)
