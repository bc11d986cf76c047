"""local/ablation.sh hands its options to compare, whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harmonifuse_espnet import cost
from harmonifuse_espnet.ablation import Run, Variant
from harmonifuse_espnet.ablation_runs import Recipe as Caller

if TYPE_CHECKING:
    from conftest import Recipe

COMPARE = ["-m", "harmonifuse_espnet.bin.compare", "--config", "conf/ablation.yaml"]
DECODE = Path("conf/decode.yaml")


def run(recipe: Recipe, *options: str) -> str:
    """Run local/ablation.sh from elsewhere, and return what it printed."""
    environment = os.environ | {"RECORD": str(recipe.record), "PYTHON": str(recipe.python)}
    command = [str(recipe.dir / "local" / "ablation.sh"), *options]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True, timeout=60)
    return done.stdout


def test_the_short_comparison_of_the_mini_recipe(mini: Recipe) -> None:
    run(mini)
    options = ["--jobs", "2", "--seeds", "1", "--test_sets", ""]
    options += ["--train_args=--max_epoch 5 --scheduler_conf total_steps=1000", "--run_args="]
    rest = ["--expdir", "exp/ablation", "--out", "RESULTS.md", "--run", "true", "--variants"]
    assert mini.calls() == [[*COMPARE, *options, *rest]]


@pytest.mark.parametrize("recipe", ["an4_crema_d"], indirect=True)
def test_options_are_handed_on_whole(recipe: Recipe) -> None:
    run(recipe, "--variants", "a b", "--test_sets", "dev_a dev_b", "--train_args", "--max_epoch 3", "--run", "false")
    options = ["--jobs", "1", "--test_sets", "dev_a dev_b", "--train_args=--max_epoch 3", "--run_args="]
    rest = ["--expdir", "exp/ablation", "--out", "RESULTS.md", "--run", "false", "--variants", "a", "b"]
    assert recipe.calls() == [[*COMPARE, *options, *rest]]


def test_help_lists_every_option(mini: Recipe) -> None:
    text = run(mini, "--help")
    assert "--jobs               runs at a time; with several, each has one process of one thread [2]\n" in text
    assert mini.calls() == []


def test_the_calls_of_a_run_are_those_that_run_sh_knows(mini: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mini.dir)
    for name, value in {"RECORD": mini.record, "PYTHON": mini.python, "SETS": mini.sets}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(cost, "trained_audio", lambda exp_dir: 1.0)
    caller, run_dir = Caller(Path("exp/ablation"), "--max_epoch 2", jobs=2), Path("exp/ablation/ours_seed3")
    caller.prepare(["test_asr"])
    assert mini.commands()[-1] == "collect_stats"
    mini.record.unlink()
    caller.carry_out(Run(Variant("ours", Path("conf/train.yaml"), 3, "Ours", ("test_asr",)), 3, run_dir), [DECODE])
    assert mini.commands() == ["train", "decode", "score", "write_results"]
    assert mini.calls()[0][-4:] == ["--seed", "3", "--max_epoch", "2"]
    assert "torch.distributed.run" not in mini.calls()[0]
    assert (run_dir / "decode_valid.acc.ave" / "test_asr" / "score.json").is_file()
    assert (run_dir / "RESULTS.md").is_file() and not Path("RESULTS.md").exists()
