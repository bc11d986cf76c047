"""Freezing and optimizer parameter groups: what patterns match, errors, and the table of parameter counts."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny import build_model
from torch import nn

from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.train.parameters import (
    check_scheduler,
    count_parameters,
    format_counts,
    freeze,
    set_parameter_groups,
)


@pytest.fixture
def model() -> HarmoniFuseModel:
    return build_model()


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)


def options_by_name(model: nn.Module, optimizer: torch.optim.Optimizer, option: str = "lr") -> dict[str, float]:
    """Return the value of an optimizer option for each parameter."""
    names = {id(weight): key for key, weight in model.named_parameters()}
    return {names[id(weight)]: group[option] for group in optimizer.param_groups for weight in group["params"]}


def test_freezing_matches_from_the_start_of_a_name_to_a_dot(
    model: HarmoniFuseModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    freeze(model, ["gate", "fusion.norms"])
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[0] for name in frozen if not name.startswith("fusion")} == {"gate"}  # not Qwen's gate_proj
    assert {name for name in frozen if name.startswith("fusion")} == {"fusion.norms.0.weight", "fusion.norms.1.weight"}
    assert "freeze_param fusion.norms: 64 parameters in 2 tensors" in caplog.text


def test_freezing_accepts_regular_expressions(model: HarmoniFuseModel) -> None:
    freeze(model, [r"decoder.*layernorm"])
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert len(frozen) == 6 and all("layernorm" in name for name in frozen)


@pytest.mark.parametrize("pattern", ["decode", "norms", "gates", "connector.project.9"])
def test_a_freezing_pattern_without_a_match_is_refused(model: HarmoniFuseModel, pattern: str) -> None:
    with pytest.raises(
        ValueError, match=f"freeze_param: '{pattern}' matches none of the .* start with connector, ctc,"
    ):
        freeze(model, [pattern])


def test_groups_have_the_options_of_their_rule_and_other_parameters_keep_the_optimizer_s(
    model: HarmoniFuseModel,
) -> None:
    optimizer = adamw(model)
    parameters = {id(weight) for weight in model.parameters()}
    rules = [{"match": "^connector", "lr": 0.1, "weight_decay": 0.0}, {"match": "bias$", "lr": 0.2}]
    set_parameter_groups(optimizer, dict(model.named_parameters()), rules)
    for name, rate in options_by_name(model, optimizer).items():
        assert rate == (0.1 if name.startswith("connector") else 0.2 if name.endswith("bias") else 1.0)
    for name, decay in options_by_name(model, optimizer, "weight_decay").items():
        assert decay == (0.0 if name.startswith("connector") else 0.5)
    listed = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert len(listed) == len(parameters) and set(listed) == parameters


def test_the_first_adam_step_has_the_size_of_the_group_s_learning_rate(model: HarmoniFuseModel) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0e-2, weight_decay=0.0)
    set_parameter_groups(optimizer, dict(model.named_parameters()), [{"match": "^ctc", "lr": 1.0e-4}])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        step = (before[name] - weight).detach()
        torch.testing.assert_close(
            step, torch.full_like(step, 1e-4 if name.startswith("ctc") else 1e-2), rtol=0.02, atol=1e-6
        )


def test_warmup_scales_the_learning_rate_of_each_group(model: HarmoniFuseModel) -> None:
    from espnet2.schedulers.warmup_lr import WarmupLR

    optimizer = adamw(model)
    set_parameter_groups(optimizer, dict(model.named_parameters()), [{"match": "^ctc", "lr": 0.25}])
    scheduler = WarmupLR(optimizer, warmup_steps=4)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1.0, 0.25])  # the peak, at step 4


def test_rules_split_the_groups_of_espnet(model: HarmoniFuseModel) -> None:
    from espnet2.optimizers.optim_groups import configure_optimizer

    conf = {"bias_weight_decay": False, "normalization_weight_decay": False}
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})  # type: ignore[assignment]
    optimizer = configure_optimizer(model, torch.optim.AdamW, {"lr": 1.0, "weight_decay": 0.5}, conf)
    set_parameter_groups(optimizer, dict(model.named_parameters()), [{"match": "^a", "lr": 0.1}])
    assert options_by_name(model, optimizer) == {"a.weight": 0.1, "a.bias": 0.1, "b.weight": 1.0, "b.bias": 1.0}
    decays = options_by_name(model, optimizer, "weight_decay")
    assert decays == {"a.weight": 0.5, "a.bias": 0.0, "b.weight": 0.5, "b.bias": 0.0}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"match": "lora_", "lr": 0.1}], "optim_groups: 'lora_' matches none of the .* that earlier rules left"),
        ([{"match": "^ctc", "lr": 0.1}, {"match": "ctc", "lr": 0.2}], "optim_groups: 'ctc' matches none of the"),
        (
            [{"match": "^gate"}],
            r"optim_groups: {'match': '\^gate'} must have 'match', a regular expression, and options",
        ),
        ([{"lr": 0.1, "eps": 1}], "must have 'match', a regular expression, and options such as lr"),
        (["^gate"], "must have 'match', a regular expression, and options such as lr"),
        (
            [{"match": "^gate", "rate": 1}],
            r"optim_groups \^gate: AdamW has no option \['rate'\]; known are \['amsgrad', 'betas',",
        ),
        (
            [{"match": "^gate", "lr": "1e-4"}],
            r"optim_groups \^gate: lr is the string '1e-4', but must be a number, without quotes",
        ),
        ([{"match": "(", "lr": 1}], r"optim_groups: '\(' is not a regular expression: missing \)"),
    ],
)
def test_invalid_rules_and_rules_without_a_match_are_refused(
    model: HarmoniFuseModel, rules: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        set_parameter_groups(adamw(model), dict(model.named_parameters()), rules)


def test_rules_do_not_match_frozen_parameters(model: HarmoniFuseModel) -> None:
    freeze(model, ["ctc"])
    with pytest.raises(ValueError, match="'ctc' matches none"):
        set_parameter_groups(adamw(model), dict(model.named_parameters()), [{"match": "ctc", "lr": 0.1}])


def test_a_scheduler_with_one_rate_is_refused_if_groups_have_different_rates(model: HarmoniFuseModel) -> None:
    optimizer = adamw(model)
    check_scheduler(optimizer, {"max_lr": 2.0e-3})  # one group
    set_parameter_groups(optimizer, dict(model.named_parameters()), [{"match": "^ctc", "lr": 0.25}])
    with pytest.raises(
        ValueError, match=r"max_lr: 0.002, which would replace .* set it to a list, such as \[1.0, 0.25\]"
    ):
        check_scheduler(optimizer, {"max_lr": 2.0e-3})
    check_scheduler(optimizer, {"max_lr": [1.0, 0.25]})
    check_scheduler(optimizer, {"warmup_steps": 3})


def test_the_table_of_parameter_counts() -> None:
    model = nn.ModuleDict(
        {"gate": nn.Linear(2, 3), "decoder": nn.ModuleDict({"lora_A": nn.Linear(1000, 2, bias=False)})}
    )
    model["decoder"]["base"] = nn.Linear(10, 10, bias=False).requires_grad_(False)
    assert count_parameters(model) == {"gate": (9, 9), "decoder LoRA": (2000, 2000), "decoder": (100, 0)}
    assert format_counts(count_parameters(model)).splitlines() == [
        "component     parameters  trained",
        "gate                   9        9",
        "decoder LoRA       2,000    2,000",
        "decoder              100        0",
        "total              2,109    2,009",
    ]
