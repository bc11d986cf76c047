"""The recipe on AN4 and CREMA-D: its second test set, where the corpus exists."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Recipe

ROOT = Path(__file__).resolve().parents[2]
DATA_SH = ROOT / "egs2/an4_crema_d/slm1/local/data.sh"
pytestmark = pytest.mark.parametrize("recipe", ["an4_crema_d"], indirect=True)


def formatted_sets(recipe: Recipe) -> list[str]:
    """The dump folders that stage 2 wrote in the last call."""
    calls = recipe.calls()
    recipe.record.unlink()
    return [call[call.index("--out_dir") + 1] for call in calls]


def prepare(recipe: Recipe, **corpora: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe's own local/data.sh; AN4 and CREMA_D exist."""
    (recipe.dir / "local" / "data.sh").write_bytes(DATA_SH.read_bytes())
    for name in ("an4/etc/an4_train.fileids", "crema_d/AudioWAV"):
        path = recipe.dir / "downloads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AN4", "CREMA_D"))}
    environment |= {"RECORD": str(recipe.record), "PYTHON": str(recipe.python), "OMP_NUM_THREADS": "1"} | corpora
    command = [str(recipe.dir / "local" / "data.sh"), "--datadir", "data"]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)


def test_run_sh_adds_the_second_test_set_where_its_corpus_or_its_data_exist(recipe: Recipe, tmp_path: Path) -> None:
    usual = [f"dump/raw/{name}" for name in ("train", "valid", "test_an4", "test_crema_d")]
    assert recipe.run("--stop_stage", "2", CREMA_D_MORE="").returncode == 0
    assert formatted_sets(recipe) == usual
    recipe.sets += " test_crema_d_more"
    assert recipe.run("--stop_stage", "2", CREMA_D_MORE=str(tmp_path)).returncode == 0
    assert formatted_sets(recipe) == [*usual, "dump/raw/test_crema_d_more"]
    assert recipe.run("--stage", "2", "--stop_stage", "2", CREMA_D_MORE="").returncode == 0
    assert formatted_sets(recipe) == [*usual, "dump/raw/test_crema_d_more"]


def test_local_data_sh_prepares_the_second_test_set_where_its_corpus_exists(recipe: Recipe, tmp_path: Path) -> None:
    done = prepare(recipe)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "CREMA_D_MORE: 'downloads/crema_d_more' does not exist; the test set test_crema_d_more is not prepared"
    )
    assert [call[2] for call in recipe.calls()] == ["an4", "crema_d"]
    recipe.record.unlink()
    assert prepare(recipe, CREMA_D_MORE=str(tmp_path)).returncode == 0
    assert recipe.calls()[2][2:] == [
        *("crema_d", str(tmp_path), "data", "--one_set", "test", "--set_names", "test=test_crema_d_more")
    ]


def test_a_wrong_folder_of_the_second_test_set_is_refused_before_anything_is_prepared(recipe: Recipe) -> None:
    done = prepare(recipe, CREMA_D_MORE="/no/where")
    assert (done.returncode, recipe.calls()) == (1, [])
    assert done.stderr == (
        "error: CREMA_D_MORE: '/no/where' does not exist. Set it in the environment or in db.sh to a folder with "
        "AudioWAV/, or unset it to leave out the test set test_crema_d_more\n"
    )
