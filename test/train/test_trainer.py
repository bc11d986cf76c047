"""The validation loss and accuracy, by which the best model is chosen, give every task the same weight."""

from __future__ import annotations

import pytest
from espnet2.train.reporter import Reporter

from harmonifuse_espnet.train.trainer import average_over_tasks

BATCHES = [  # task, utterances, loss, accuracy
    ("asr", 30, 1.0, 0.9),
    ("asr", 10, 3.0, 0.5),  # asr: loss 1.5, accuracy 0.8
    ("ser", 4, 0.5, 0.25),
    ("ser", 4, 0.7, 0.75),  # ser: loss 0.6, accuracy 0.5
]


def validate(batches: list[tuple[str, int, float, float]]) -> dict[str, float]:
    reporter = Reporter(epoch=1)
    with reporter.observe("valid") as valid:
        for task, size, loss, acc in batches:
            stats = {"loss": loss, "acc": acc, f"loss_{task}": 0.0, f"acc_{task}": acc, f"loss_ctc_{task}": 9.0}
            valid.register(stats, size)
            valid.next()
        average_over_tasks(valid)
    return {name: reporter.get_value("valid", name) for name in ("loss", "acc", "acc_asr", "acc_ser")}


def test_every_task_has_the_same_weight() -> None:
    found = validate(BATCHES)
    assert found["acc"] == pytest.approx((0.8 + 0.5) / 2)
    assert found["loss"] == pytest.approx((1.5 + 0.6) / 2)
    assert (found["acc_asr"], found["acc_ser"]) == (pytest.approx(0.8), pytest.approx(0.5))


def test_more_utterances_of_a_task_do_not_change_the_criterion() -> None:
    large = [(task, 50 * size if task == "asr" else size, loss, acc) for task, size, loss, acc in BATCHES]
    assert validate(large) == pytest.approx(validate(BATCHES))


def test_a_single_task_has_its_own_average() -> None:
    reporter = Reporter(epoch=1)
    with reporter.observe("valid") as valid:
        for _, size, loss, acc in BATCHES[:2]:
            valid.register({"loss": loss, "acc": acc, "acc_asr": acc}, size)
            valid.next()
        average_over_tasks(valid)
    assert reporter.get_value("valid", "acc") == pytest.approx(0.8)
    assert reporter.get_value("valid", "loss") == pytest.approx(1.5)
