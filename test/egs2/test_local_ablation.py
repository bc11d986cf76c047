"""local/ablation.sh passes its options to compare unchanged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harmonifuse_espnet.ablation import cost
from harmonifuse_espnet.ablation.runner import Recipe as Caller
from harmonifuse_espnet.ablation.spec import Run, Variant, read_ablation
from harmonifuse_espnet.bin.compare import get_parser
from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.train.task import HarmoniFuseTask

if TYPE_CHECKING:
    from conftest import Recipe

COMPARE = ["-m", "harmonifuse_espnet.bin.compare"]
DECODE = Path("conf/decode.yaml")


def run(recipe: Recipe, *options: str) -> str:
    """Run local/ablation.sh from another folder, and return its output."""
    environment = os.environ | {"RECORD": str(recipe.record), "PYTHON": str(recipe.python)}
    command = [str(recipe.dir / "local" / "ablation.sh"), *options]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True, timeout=60)
    return done.stdout


def test_options_override_the_mini_recipe_s_short_comparison(mini: Recipe) -> None:
    run(mini, "--seeds", "3", "--variants", "a b")
    short = ["--seeds", "1", "--jobs", "2", "--train_args", "--max_epoch 4 --scheduler_conf total_steps=800"]
    assert mini.calls() == [[*COMPARE, *short, "--seeds", "3", "--variants", "a b"]]
    args = get_parser().parse_args(mini.calls()[0][2:])
    assert (args.seeds, args.jobs, args.variants, args.train_args) == (3, 2, "a b", short[-1])


@pytest.mark.parametrize("recipe", ["an4_crema_d"], indirect=True)
def test_options_are_passed_on_unchanged(recipe: Recipe) -> None:
    options = ["--test_sets", "dev_a dev_b", "--train_args", "--max_epoch 3", "--run_args", "--ngpu 1"]
    run(recipe, *options)
    assert recipe.calls() == [[*COMPARE, *options]]
    args = get_parser().parse_args(options)
    assert (args.test_sets, args.train_args, args.run_args) == ("dev_a dev_b", "--max_epoch 3", "--ngpu 1")


@pytest.mark.parametrize("recipe", ["an4_crema_d"], indirect=True)
def test_the_second_test_set_is_compared_where_its_corpus_or_its_data_exist(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = ["--test_sets", "test_an4 test_crema_d test_crema_d_more"]
    monkeypatch.setenv("CREMA_D_MORE", str(tmp_path / "nowhere"))
    run(recipe)
    monkeypatch.setenv("CREMA_D_MORE", str(tmp_path))
    run(recipe, "--test_sets", "dev_crema_d")
    monkeypatch.delenv("CREMA_D_MORE")
    (recipe.dir / "data" / "test_crema_d_more").mkdir(parents=True)
    run(recipe)
    assert recipe.calls() == [COMPARE, [*COMPARE, *added, "--test_sets", "dev_crema_d"], [*COMPARE, *added]]
    assert get_parser().parse_args(recipe.calls()[1][2:]).test_sets == "dev_crema_d"
    monkeypatch.chdir(recipe.dir)
    sets = added[1].split()
    variants = {each.name: each.test_sets for each in read_ablation(Path("conf/ablation.yaml"), sets).variants}
    assert variants["harmonifuse"] == tuple(sets)
    assert variants["asr_only"] == variants["asr_share"] == ("test_an4",)
    assert variants["ser_only"] == variants["ser_share"] == ("test_crema_d", "test_crema_d_more")


def test_a_short_training_keeps_the_other_options_of_its_schedule(tmp_path: Path) -> None:
    """The mini recipe's train_args change one key of scheduler_conf."""
    (tmp_path / "train.yaml").write_text("scheduler_conf: {max_lr: 0.1, total_steps: 2800}\n")
    options = ["--config", str(tmp_path / "train.yaml"), "--max_epoch", "5", "--scheduler_conf", "total_steps=1000"]
    args = parse_with_config(HarmoniFuseTask.get_parser(), options)
    assert args.scheduler_conf == {"max_lr": 0.1, "total_steps": 1000}


def test_run_sh_accepts_the_calls_of_a_run(mini: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mini.dir)
    for name, value in {"RECORD": mini.record, "PYTHON": mini.python, "SETS": mini.sets}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(cost, "training_audio_seconds", lambda exp_dir: 1.0)
    caller, run_dir = Caller(Path("exp/ablation"), "--max_epoch 2", jobs=2), Path("exp/ablation/ours_seed3")
    caller.prepare(["test_asr"])
    assert mini.commands()[-1] == "collect_stats"
    mini.record.unlink()
    caller.run(Run(Variant("ours", Path("conf/train.yaml"), 3, "Ours", ("test_asr",)), 3, run_dir), [DECODE])
    assert mini.commands() == ["train", "decode", "score", "write_results"]
    assert mini.calls()[0][-4:] == ["--seed", "3", "--max_epoch", "2"]
    assert "torch.distributed.run" not in mini.calls()[0]
    assert (run_dir / "decode_valid.acc.ave" / "test_asr" / "score.json").is_file()
    assert (run_dir / "RESULTS.md").is_file() and not Path("RESULTS.md").exists()
