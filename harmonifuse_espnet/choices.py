"""Options that choose a class: the class's own arguments come from the option's ``_conf``."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from espnet2.train.class_choices import ClassChoices


def construct(
    choices: ClassChoices, args: argparse.Namespace, *sizes: int, otherwise: type | None = None, **given: Any
) -> Any:
    """An object of the class that an option chooses (``otherwise`` for none), with the option's ``_conf``.

    Raises:
        ValueError: if ``_conf`` names an argument that the class does not have.
    """
    conf = getattr(args, f"{choices.name}_conf")
    chosen = choices.get_class(getattr(args, choices.name)) or otherwise
    return checked(f"{choices.name}_conf", chosen, conf)(*sizes, **given, **conf)


def checked(option: str, chosen: Any, conf: dict[str, Any]) -> Any:
    """The class itself, once the names in ``conf`` are found to be its arguments.

    Raises:
        ValueError: if one is not.
    """
    known = inspect.signature(chosen).parameters
    unknown = sorted(set(conf) - set(known))
    if unknown:
        raise ValueError(f"{option}: {chosen.__name__} has no argument {unknown}; it has {list(known)}")
    return chosen
