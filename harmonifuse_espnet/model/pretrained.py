"""Pre-trained models from Hugging Face: how they are brought in, held in memory, and left out of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from harmonifuse_espnet.common.errors import InputError


def load_pretrained(
    option: str, auto: Any, model: str | None, config: Mapping[str, Any] | None, **overrides: Any
) -> PreTrainedModel:
    """A model of Hugging Face's: pre-trained, or random.

    On the meta device (``with torch.device("meta")``) nothing but the shapes is made, so that a plan of a large model
    costs neither its download nor its memory.

    Args:
        option: Name of the option that ``model`` and ``config`` come from, for the message.
        auto: ``AutoModel``, ``AutoModelForCausalLM``, ...
        model: Name on the hub or a folder; its weights are loaded.
        config: ``{"model_type": "wavlm", ...}`` for random weights, the fields of the Hugging Face configuration.
        overrides: Fields that differ from the model's own.

    Raises:
        ValueError: if not exactly one of ``model`` and ``config`` is given.
    """
    if (model is None) == (config is None):
        raise InputError(f"{option} needs either 'model' or 'config', got model={model}, config={config}")
    if config is not None:
        return auto.from_config(AutoConfig.for_model(**{**config, **overrides}))
    if torch.get_default_device().type == "meta":
        return auto.from_config(AutoConfig.from_pretrained(model, **overrides))
    return auto.from_pretrained(model, dtype=torch.float32, **overrides)


class Pretrained(nn.Module):
    """Base of modules around a pre-trained model.

    A frozen one is held in ``bfloat16`` on a GPU and in ``float32`` on the CPU, where bfloat16 is slow, whatever
    ``.to(dtype=...)`` asks for (ESPnet's trainer asks for its ``train_dtype``). What is trained follows ``.to``.

    Attributes:
        frozen: Whether the model itself does not learn; adapters in it may.
        restorable: Whether the frozen weights can be loaded again by name; checkpoints then leave them out.
    """

    frozen = False
    restorable = False

    @property
    def dtype(self) -> torch.dtype:
        """In which the frozen weights are held and read their input; the trained ones' if nothing is frozen."""
        weights = [weight for weight in self.parameters() if weight.is_floating_point()]
        return next((weight.dtype for weight in weights if not weight.requires_grad), weights[0].dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pretrained:
        super()._apply(fn, recurse)
        for weight in self.parameters():
            if self.frozen and not weight.requires_grad and weight.is_floating_point():
                weight.data = weight.data.to(torch.bfloat16 if weight.is_cuda else torch.float32)
        return self
