"""Registry: options that choose a class, such as ``--frontend whisper``, and its arguments in ``--frontend_conf``.

Add a new class, such as an encoder, to the choices of its option here.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Collection, Mapping, Sequence
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
    none_class: type | None = None,
    defaults: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> Any:
    """Create an object of the class that an option chooses, with the arguments in ``<option>_conf``.

    Args:
        choices: The option and its classes.
        args: Training options. An option that is newer than the config has its default.
        sizes: The first positional arguments of the class.
        none_class: Class for the choice ``none``.
        defaults: Arguments that ``_conf`` overrides.
        fixed: Arguments that ``_conf`` cannot override.

    Raises:
        InputError: if ``_conf`` has an argument that the class does not have, or that is among ``sizes`` or ``fixed``.
    """
    option = f"{choices.name}_conf"
    conf = getattr(args, option, {})
    chosen: Any = choices.get_class(getattr(args, choices.name, choices.default)) or none_class
    check_arguments(option, chosen, conf, [*list(inspect.signature(chosen).parameters)[: len(sizes)], *fixed])
    return chosen(*sizes, **fixed, **{**(defaults or {}), **conf})


def check_arguments(option: str, chosen: Any, conf: Mapping[str, Any], fixed: Collection[str] = ()) -> None:
    """Check that all names in ``conf`` are arguments of the class ``chosen``.

    Raises:
        InputError: if a name is not an argument, or is one of ``fixed``, which other options determine.
    """
    known = list(inspect.signature(chosen).parameters)
    unknown = sorted(set(conf) - set(known))
    if unknown:
        free = [name for name in known if name not in fixed]
        raise InputError(f"{option}: {chosen.__name__} has no argument {unknown}; known are {free or 'none'}")
    taken = sorted(set(conf) & set(fixed))
    if taken:
        raise InputError(
            f"{option}: {taken} of {chosen.__name__} cannot be set here, since other options determine it; remove it"
        )


def check_conf(option: str, chosen: Any, conf: Mapping[str, Any]) -> None:
    """Check the arguments of an optimizer or a scheduler, a class whose first argument is given elsewhere.

    Raises:
        InputError: if an argument is unknown, is missing, or is a string for a number.
    """
    first, *others = inspect.signature(chosen).parameters.values()
    if any(other.kind is other.VAR_KEYWORD for other in others):
        return
    check_arguments(option, chosen, conf, [first.name])
    for other in others:
        needed = other.default is other.empty
        is_number = isinstance(other.default, (int, float)) and not isinstance(other.default, bool)
        if needed and other.name not in conf:
            raise InputError(f"{option}: {chosen.__name__} needs {other.name}; add {other.name} to {option}")
        if isinstance(conf.get(other.name), str) and (needed or is_number):
            raise InputError(
                f"{option}: {other.name} is the string '{conf[other.name]}', but must be a number, without quotes"
            )
