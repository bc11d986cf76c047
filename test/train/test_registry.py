"""Options that choose a class: the class, its arguments, and errors for other arguments."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.connector import StackingConnector
from harmonifuse_espnet.model.gate import Projection, PromptGate, TaskGate
from harmonifuse_espnet.model.layer_weights import PromptWeights, SharedWeights
from harmonifuse_espnet.train.registry import (
    component_gate_choices,
    connector_choices,
    construct,
    fusion_choices,
    label_output_choices,
)


def options(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**values)


def test_the_option_chooses_the_class_and_its_conf_the_arguments() -> None:
    connector = construct(connector_choices, options(connector="stacking", connector_conf={"stack": 3}), 4, 8)
    assert isinstance(connector, StackingConnector) and connector.stack == 3
    for choice, expected in (("prompt", PromptGate), ("task", TaskGate), ("none", Projection)):
        chosen = options(component_gate=choice if choice != "none" else None, component_gate_conf={})
        assert type(construct(component_gate_choices, chosen, 4, 8, 16, 2, none_class=Projection)) is expected


def test_an_option_newer_than_the_config_has_its_default() -> None:
    assert type(construct(fusion_choices, options(), 3, 2, 16)) is PromptWeights


def test_the_conf_overrides_defaults_and_is_not_changed() -> None:
    for conf, last_bias in (({}, 15.0), ({"last_bias": 2.0}, 2.0)):
        chosen = options(fusion="static", fusion_conf=dict(conf))
        weights = construct(fusion_choices, chosen, 3, 2, 16, defaults={"last_bias": 15.0})
        assert isinstance(weights, SharedWeights) and weights.weight.tolist() == [0.0, 0.0, last_bias]
        assert chosen.fusion_conf == conf


def test_unknown_arguments_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"connector_conf: StackingConnector has no argument \['x'\]; known are \['stack'\]"
    ):
        construct(connector_choices, options(connector_conf={"x": 1}), 4, 8)
    with pytest.raises(InputError, match=r"TextOutput has no argument \['dropout'\]; known are none"):
        construct(label_output_choices, options(label_output_conf={"dropout": 0.1}), [0], 8)


@pytest.mark.parametrize("sizes", [(4, 8), (4,)])
def test_arguments_that_other_options_determine_are_refused(sizes: tuple[int, ...]) -> None:
    fixed = {} if len(sizes) == 2 else {"output_size": 8}
    message = (
        r"connector_conf: \['output_size'\] of StackingConnector cannot be set here, since other options determine it"
    )
    with pytest.raises(InputError, match=message):
        construct(connector_choices, options(connector_conf={"output_size": 8}), *sizes, **fixed)
