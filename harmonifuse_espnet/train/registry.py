"""Options that choose a class: the classes of each, and how one is made with the option's ``_conf``."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from typing import Any

from espnet2.train.class_choices import ClassChoices

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.connector import StackingConnector
from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.encoders.precomputed import PrecomputedEncoder
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.encoders.whisper import WhisperEncoder
from harmonifuse_espnet.model.gate import PromptGate, TaskGate
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import (
    LastWeights,
    PerTaskWeights,
    PromptWeights,
    SharedWeights,
    UniformWeights,
)
from harmonifuse_espnet.model.outputs import BothOutput, HeadOutput, TextOutput

frontend_choices = ClassChoices(
    "frontend",
    {
        "logmel": ConformerEncoder,
        "huggingface": SelfSupervisedEncoder,
        "whisper": WhisperEncoder,
        "precomputed": PrecomputedEncoder,
    },
    default="logmel",
)
layer_weights_choices = ClassChoices(
    "layer_weights",
    {
        "shared": SharedWeights,
        "per_task": PerTaskWeights,
        "prompt": PromptWeights,
        "last": LastWeights,
        "uniform": UniformWeights,
    },
    default="per_task",
)
component_gate_choices = ClassChoices(
    "component_gate", {"prompt": PromptGate, "task": TaskGate}, default="prompt", optional=True
)
connector_choices = ClassChoices("connector", {"stacking": StackingConnector}, default="stacking")
decoder_choices = ClassChoices("decoder", {"huggingface": LanguageModel}, default="huggingface")
fusion_choices = ClassChoices(
    "fusion",
    {"prompt": PromptWeights, "task": PerTaskWeights, "static": SharedWeights, "last": LastWeights},
    default="prompt",
)
label_output_choices = ClassChoices(
    "label_output", {"text": TextOutput, "head": HeadOutput, "both": BothOutput}, default="text"
)
CLASS_CHOICES = [
    frontend_choices,
    layer_weights_choices,
    component_gate_choices,
    connector_choices,
    decoder_choices,
    fusion_choices,
    label_output_choices,
]


def construct(
    choices: ClassChoices,
    args: argparse.Namespace,
    *sizes: int | Sequence[int],
    otherwise: type | None = None,
    **given: Any,
) -> Any:
    """An object of the class that an option chooses (``otherwise`` for none), with the option's ``_conf``.

    A config that was written before there was the option means its default.

    Raises:
        ValueError: if ``_conf`` names an argument that the class does not have.
    """
    conf = getattr(args, f"{choices.name}_conf", {})
    chosen = choices.get_class(getattr(args, choices.name, choices.default)) or otherwise
    return checked(f"{choices.name}_conf", chosen, conf)(*sizes, **given, **conf)


def checked(option: str, chosen: Any, conf: dict[str, Any]) -> Any:
    """The class itself, once the names in ``conf`` are found to be its arguments.

    Raises:
        ValueError: if one is not.
    """
    known = inspect.signature(chosen).parameters
    unknown = sorted(set(conf) - set(known))
    if unknown:
        raise InputError(f"{option}: {chosen.__name__} has no argument {unknown}; it has {list(known)}")
    return chosen
