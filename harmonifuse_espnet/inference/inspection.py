"""Inspection of a trained model: parameter counts, layer weights by prompt, component gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import to_device

from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.train.parameters import count_parameters, total_counts

if TYPE_CHECKING:
    from harmonifuse_espnet.data.tasks import SpeechTask
    from harmonifuse_espnet.inference.speech2text import Speech2Text


def parameter_counts(model: torch.nn.Module) -> dict[str, int]:
    """Count all ``parameters`` of a model, and the trained ones (``trained_parameters``)."""
    total, trained = total_counts(count_parameters(model))
    return {"parameters": total, "trained_parameters": trained}


@torch.no_grad()
def layer_weights_by_prompt(model: Speech2Text, task: str) -> dict[str, Any]:
    """Return the weights over the encoder's layers (L) and the language model's layers (M) for a task.

    ``layer_weights`` and ``fusion_weights`` are those of the first prompt; ``wordings`` has both for each prompt;
    ``held_out`` lists the held-out prompts.
    """
    chosen = model.tasks[task]
    by_prompt = {prompt: _weights(model, chosen, prompt) for prompt in (*chosen.prompts, *chosen.held_out_prompts)}
    return {**by_prompt[chosen.prompts[0]], "wordings": by_prompt, "held_out": list(chosen.held_out_prompts)}


@torch.no_grad()
def component_gate(model: Speech2Text, example: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the component gate for a preprocessed utterance (T, C), from 0 to 1; None for a model without a gate."""
    network, batch = model.model, to_device(collate([("speech", example)])[1]["batch"], model.device)
    _, prompt_summary = network.embed_prompt(batch.prompt, batch.prompt_lengths)
    weighted, _ = network.weight_layers(batch.speech, batch.speech_lengths, prompt_summary, batch.task)
    gate = network.gate.gate(weighted, prompt_summary, batch.task)
    return None if gate is None else gate[0].float().cpu().numpy()


def _weights(model: Speech2Text, task: SpeechTask, prompt: str) -> dict[str, list[float]]:
    tokens = torch.tensor([model.tokenizer.encode(prompt)], device=model.device)
    _, prompt_summary = model.model.embed_prompt(tokens, torch.tensor([tokens.size(1)], device=model.device))
    index = torch.tensor([task.index], device=model.device)
    return {
        "layer_weights": model.model.layer_weights(prompt_summary, index)[0].tolist(),
        "fusion_weights": model.model.fusion.weights(prompt_summary, index)[0].tolist(),
    }
