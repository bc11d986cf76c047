"""Freezing, optimizer parameter groups, and parameter counts by component."""

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
    """Freeze parameters by name, as ESPnet's ``--freeze_param`` does, and log how many each pattern matches.

    Args:
        model: Model whose parameter names start with the component: ``frontend``, ``gate``, ``decoder``, ...
        patterns: Regular expressions, matched from the start of a name up to a dot or the end, as in ESPnet:
            ``connector``, ``fusion.norms``, ``decoder.*norm``.

    Raises:
        InputError: if a pattern matches no parameter.
    """
    for pattern in patterns:
        expression = rf"^(?:{pattern})(?:\.|$)"
        matched = _match(f"freeze_param: {pattern!r}", expression, dict(model.named_parameters()), "parameters")
        for weight in matched.values():
            weight.requires_grad_(False)
        logging.info(f"freeze_param {pattern}: {_size(matched):,} parameters in {len(matched)} tensors")


def set_parameter_groups(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], rules: Sequence[Mapping[str, Any]]
) -> None:
    """Move parameters into optimizer parameter groups with separate options, such as the learning rate.

    The first rule that matches a parameter applies. Options that a rule does not set keep their value, so that ESPnet's
    ``--exclude_weight_decay`` also applies within the groups.

    Args:
        optimizer: Optimizer of all parameters of the model.
        parameters: Name -> parameter; frozen ones are ignored.
        rules: Each ``{"match": expression, "lr": 1.0e-4, ...}``: a regular expression that is searched in the names,
            and options of the optimizer.

    Raises:
        InputError: if a rule has no ``match``, has an unknown option or a string for a number, or matches no trained
            parameter that earlier rules left.
    """
    remaining = {name: weight for name, weight in parameters.items() if weight.requires_grad}
    for rule in rules:
        options = _rule_options(rule, optimizer)
        candidates = "trained parameters that earlier rules left"
        matched = _match(f"optim_groups: {rule['match']!r}", rule["match"], remaining, candidates)
        remaining = {name: weight for name, weight in remaining.items() if name not in matched}
        _move(optimizer, {id(weight) for weight in matched.values()}, options)
        logging.info(
            f"optim_groups {rule['match']}: {_size(matched):,} parameters in {len(matched)} tensors, {options}"
        )


def _rule_options(rule: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("match"), str) or len(rule) < 2:
        raise InputError(f"optim_groups: {rule} must have 'match', a regular expression, and options such as lr")
    options = {name: value for name, value in rule.items() if name != "match"}
    unknown = sorted(set(options) - set(optimizer.defaults))
    if unknown:
        known = sorted(optimizer.defaults)
        raise InputError(
            f"optim_groups {rule['match']}: {type(optimizer).__name__} has no option {unknown}; known are {known}"
        )
    for name, value in options.items():
        if isinstance(value, str):
            raise InputError(
                f"optim_groups {rule['match']}: {name} is the string '{value}', but must be a number, without quotes"
            )
    return options


def _move(optimizer: Optimizer, matched: set[int], options: Mapping[str, Any]) -> None:
    """Move the parameters with these ids from each group to a new one with ``options``; remove empty groups."""
    for group in list(optimizer.param_groups):
        moved = [weight for weight in group["params"] if id(weight) in matched]
        group["params"] = [weight for weight in group["params"] if id(weight) not in matched]
        if moved:
            optimizer.add_param_group({**group, "params": moved, **options})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def check_scheduler(optimizer: Optimizer, conf: Mapping[str, Any]) -> None:
    """Check that the scheduler does not set one learning rate for all groups, as onecyclelr and cycliclr can.

    Other schedulers scale the learning rate of each group.

    Raises:
        InputError: if ``conf``, the scheduler's options, sets one learning rate, but the groups have different ones.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for name in ("max_lr", "base_lr"):
        if len(set(rates)) > 1 and isinstance(conf.get(name), (int, float, str)):
            raise InputError(
                f"scheduler_conf has {name}: {conf[name]}, which would replace the learning rates of optim_groups; "
                f"set it to a list, such as {rates}, or use warmuplr, which scales the rate of each group"
            )


def count_parameters(model: nn.Module) -> Counts:
    """Count all and trained parameters by component; LoRA is a component of its own."""
    counts: Counts = {}
    for name, weight in model.named_parameters():
        component = name.split(".")[0] + (" LoRA" if "lora_" in name else "")
        total, trained = counts.get(component, (0, 0))
        counts[component] = (total + weight.numel(), trained + weight.numel() * weight.requires_grad)
    return counts


def total_counts(counts: Counts) -> tuple[int, int]:
    """Return the number of parameters and of trained parameters of all components."""
    return sum(total for total, _ in counts.values()), sum(trained for _, trained in counts.values())


def format_counts(counts: Counts) -> str:
    components = [*counts.items(), ("total", total_counts(counts))]
    rows = [(name, f"{total:,}", f"{trained:,}") for name, (total, trained) in components]
    return format_rows([("component", "parameters", "trained"), *rows])


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with columns of equal width, the first left-aligned, the others right-aligned.

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


def _match(
    rule: str, expression: str, parameters: Mapping[str, nn.Parameter], candidates: str
) -> dict[str, nn.Parameter]:
    """Return the parameters whose names match; ``rule`` and ``candidates`` are words of the error message."""
    try:
        matched = {name: weight for name, weight in parameters.items() if re.search(expression, name)}
    except re.error as error:
        raise InputError(f"{rule} is not a regular expression: {error}") from error
    if not matched:
        components = sorted({name.split(".")[0] for name in parameters})
        raise InputError(
            f"{rule} matches none of the {len(parameters)} {candidates}; their names start with "
            f"{', '.join(components)}; correct or remove it"
        )
    return matched


def _size(parameters: Mapping[str, nn.Parameter]) -> int:
    return sum(weight.numel() for weight in parameters.values())
