"""Who learns, and how fast: freezing, groups of the optimizer, and the table of parameters by component."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from harmonifuse_espnet.common.errors import InputError

Counts = dict[str, tuple[int, int]]  # component -> parameters, trained parameters


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Stop parts of a model from learning: ESPnet's ``--freeze_param``, which alone never says what it matched.

    Args:
        model: Its parameters' names begin with the component: ``frontend``, ``gate``, ``decoder``, ...
        patterns: Each the beginning of names up to a dot, as in ESPnet (``connector``, ``fusion.norms``); regular
            expressions serve as well (``decoder.*norm``).

    Raises:
        ValueError: if a pattern matches no parameter.
    """
    for pattern in patterns:
        chosen = _matching("freeze_param", rf"^(?:{pattern})(?:\.|$)", pattern, dict(model.named_parameters()))
        for weight in chosen.values():
            weight.requires_grad_(False)
        logging.info(f"freeze_param {pattern}: {_size(chosen):,} parameters in {len(chosen)} tensors")


def regroup(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], rules: Sequence[Mapping[str, Any]]) -> None:
    """Give parameters options of their own, in groups of the optimizer.

    The first rule that matches a parameter counts. What a rule leaves open stays as the optimizer has it, so that
    ESPnet's ``--exclude_weight_decay`` holds within groups as well.

    Args:
        optimizer: Over all of the model's parameters.
        parameters: By name; frozen ones are passed over.
        rules: ``{"match": regular expression that a name holds, "lr": 1.0e-4, ...}``, options of the optimizer.

    Raises:
        ValueError: if a rule has no ``match``, an option that the optimizer does not know or a text for a number, or
            matches no trained parameter that an earlier rule has left.
    """
    left = {name: weight for name, weight in parameters.items() if weight.requires_grad}
    for rule in rules:
        options = _rule_options(rule, optimizer)
        chosen = _matching("optim_groups", rule["match"], rule["match"], left)
        left = {name: weight for name, weight in left.items() if name not in chosen}
        _move(optimizer, {id(weight) for weight in chosen.values()}, options)
        logging.info(f"optim_groups {rule['match']}: {_size(chosen):,} parameters in {len(chosen)} tensors, {options}")


def _rule_options(rule: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("match"), str) or len(rule) < 2:
        raise InputError(f"optim_groups: {rule} must have 'match', a regular expression, and options such as lr")
    options = {name: value for name, value in rule.items() if name != "match"}
    unknown = sorted(set(options) - set(optimizer.defaults))
    if unknown:
        known = sorted(optimizer.defaults)
        raise InputError(f"optim_groups {rule['match']}: {type(optimizer).__name__} has no {unknown}; it has {known}")
    for name, value in options.items():
        if isinstance(value, str):
            raise InputError(f"optim_groups {rule['match']}: {name} is a text, '{value}'; YAML's numbers are as 1.0e-4")
    return options


def _move(optimizer: Optimizer, chosen: set[int], options: Mapping[str, Any]) -> None:
    """Split the chosen parameters off every group that has some; empty groups go."""
    for group in list(optimizer.param_groups):
        taken = [weight for weight in group["params"] if id(weight) in chosen]
        group["params"] = [weight for weight in group["params"] if id(weight) not in chosen]
        if taken:
            optimizer.add_param_group({**group, "params": taken, **options})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def check_scheduler(optimizer: Optimizer, conf: Mapping[str, Any]) -> None:
    """Refuse a scheduler that gives all groups one rate (onecyclelr, cycliclr); others scale each group's own.

    Raises:
        ValueError: if ``conf``, the scheduler's options, has one rate for groups of different rates.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for name in ("max_lr", "base_lr"):
        if len(set(rates)) > 1 and isinstance(conf.get(name), (int, float, str)):
            raise InputError(
                f"scheduler_conf has {name}: {conf[name]}, which would replace the learning rates of optim_groups; "
                f"give it a list, such as {rates}, or take warmuplr, which scales each group's own"
            )


def count_parameters(model: nn.Module) -> Counts:
    """Parameters and trained parameters by component; LoRA's count apart from the language model that it adapts."""
    counts: Counts = {}
    for name, weight in model.named_parameters():
        component = name.split(".")[0] + (" LoRA" if "lora_" in name else "")
        total, trained = counts.get(component, (0, 0))
        counts[component] = (total + weight.numel(), trained + weight.numel() * weight.requires_grad)
    return counts


def format_counts(counts: Counts) -> str:
    """The table that the training's log shows."""
    whole = tuple(sum(column) for column in zip(*counts.values(), strict=True))
    rows = [(name, f"{total:,}", f"{trained:,}") for name, (total, trained) in [*counts.items(), ("together", whole)]]
    return format_rows([("component", "parameters", "trained"), *rows])


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left, numbers to the right.

    Example:
        >>> print(format_rows([("part", "size"), ("gate", "12")]))
        part  size
        gate    12
    """
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    )


def _matching(
    option: str, expression: str, shown: str, parameters: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    try:
        chosen = {name: weight for name, weight in parameters.items() if re.search(expression, name)}
    except re.error as error:
        raise InputError(f"{option}: {shown!r} is no regular expression: {error}") from error
    if not chosen:
        components = sorted({name.split(".")[0] for name in parameters})
        raise InputError(
            f"{option}: {shown!r} matches none of the {len(parameters)} parameters left to it, which begin with "
            f"{', '.join(components)}; correct it or leave it out"
        )
    return chosen


def _size(parameters: Mapping[str, nn.Parameter]) -> int:
    return sum(weight.numel() for weight in parameters.values())
