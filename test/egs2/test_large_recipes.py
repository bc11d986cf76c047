"""The recipes on LibriSpeech and IEMOCAP: training sets by name, and cross-validation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Recipe

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
BIN = "harmonifuse_espnet.bin."


def calls(recipe: Recipe, command: str) -> list[list[str]]:
    """The arguments of every call of a command."""
    return [call[2:] for call in recipe.calls() if call[1] == BIN + command]


def data_options(output: str) -> list[str]:
    """The arguments of every call of local/data.sh."""
    return [line.removeprefix("local/data.sh ") for line in output.splitlines() if line.startswith("local/data.sh ")]


@pytest.mark.parametrize("recipe", ["librispeech"], indirect=True)
@pytest.mark.parametrize(
    ("train_set", "sets"),
    [
        ("train_clean_100", "train_clean_100"),
        ("train_clean_460", "train_clean_100 train_clean_360"),
        ("train_960", "train_clean_100 train_clean_360 train_other_500"),
    ],
)
def test_a_name_of_a_training_set_selects_subsets_of_librispeech(recipe: Recipe, train_set: str, sets: str) -> None:
    done = recipe.run("--train_set", train_set, "--stop_stage", "2", "--local_data_opts", "--download true")
    subsets = f"{sets} dev_clean dev_other test_clean test_other".replace("_", "-").replace(" ", ",")
    assert data_options(done.stdout) == [f"--datadir data/{train_set} --download true --subsets {subsets}"]
    train = calls(recipe, "format_audio")[0]
    assert train[-len(sets.split()) :] == [f"data/{train_set}/{name}" for name in sets.split()]


@pytest.mark.parametrize("recipe", ["iemocap"], indirect=True)
def test_folds_have_folders_of_their_own_and_results_of_all(recipe: Recipe) -> None:
    done = recipe.run("--folds", "1 3", "--stop_stage", "8", "--tag", "slm")
    assert done.returncode == 0, done.stdout
    assert data_options(done.stdout) == [
        f"--datadir data/ser_4_superb_fold{n} --protocol superb --fold {n} --labels 4 --train_tasks ser" for n in (1, 3)
    ]
    folders = [call[call.index("--output_dir") + 1] for call in calls(recipe, "train")]
    assert folders == ["exp/ser_4_superb_fold1/slm", "exp/ser_4_superb_fold3/slm"]
    expected = "--folds exp/ser_4_superb_fold*/slm --train_config conf/train.yaml --out RESULTS.md"
    assert calls(recipe, "write_results") == [expected.split()] * 2
    assert {call[call.index("--data_dir") + 1] for call in calls(recipe, "decode")} == {
        "dump/ser_4_superb_fold1/raw/test_ser",
        "dump/ser_4_superb_fold3/raw/test_ser",
    }


@pytest.mark.parametrize("recipe", ["iemocap", "librispeech_iemocap"], indirect=True)
@pytest.mark.parametrize(("protocol", "folds"), [("superb", 5), ("emobox", 5), ("loso10", 10), ("espnet", 1)])
def test_all_folds_of_a_protocol(recipe: Recipe, protocol: str, folds: int) -> None:
    done = recipe.run("--protocol", protocol, "--folds", "all", "--stop_stage", "1")
    assert [f"--fold {n} " in line for n, line in enumerate(data_options(done.stdout), start=1)] == [True] * folds


@pytest.mark.parametrize("recipe", ["iemocap"], indirect=True)
def test_without_a_development_set_the_model_of_the_last_epoch_is_decoded(recipe: Recipe) -> None:
    done = recipe.run("--protocol", "emobox", "--stop_stage", "6")
    assert calls(recipe, "format_audio")[1][-1] == "data/ser_4_emobox_fold1/train_ser"
    assert "needs exp/" not in done.stdout
    done = recipe.run("--protocol", "emobox", "--stage", "7")
    assert "/latest.pth, created by stage 6" in done.stdout


@pytest.mark.parametrize("recipe", ["iemocap"], indirect=True)
def test_iemocap_s_own_transcripts_are_an_option(recipe: Recipe) -> None:
    done = recipe.run("--train_tasks", "ser asr", "--stop_stage", "5")
    assert data_options(done.stdout)[0].endswith("--train_tasks ser,asr")
    folder = "data/ser_asr_4_superb_fold1"
    assert calls(recipe, "format_audio")[0][-2:] == [f"{folder}/train_ser", f"{folder}/train_asr"]
    assert calls(recipe, "collect_stats")[0][5] == "conf/tasks_asr.yaml"


@pytest.mark.parametrize("recipe", ["librispeech_iemocap"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train_set", "train"], "--train_set is 'train', but must be one of: train_clean_100 train_clean_460 train"),
        (["--protocol", "random"], "--protocol is 'random', but must be one of: superb emobox loso10 espnet"),
        (["--fold", "6"], "protocol superb has folds 1 to 5, got '6'"),
        (["--folds", "1 x"], "protocol superb has folds 1 to 5, got 'x'"),
        (["--fold"], "option --fold needs a value"),
        (["--fold", "--folds"], "option --fold needs a value, but the option --folds follows"),
        (["--stge", "3"], "unknown option --stge; similar options: --stage"),
    ],
)
def test_a_bad_option_is_refused_before_anything_runs(recipe: Recipe, options: list[str], message: str) -> None:
    done = recipe.run(*options)
    assert done.returncode == 1 and f"error: {message}" in done.stdout, done.stdout
    assert recipe.calls() == []


@pytest.mark.parametrize("recipe", ["librispeech_iemocap"], indirect=True)
def test_help_shows_the_recipes_own_options_and_then_all(recipe: Recipe) -> None:
    done = recipe.run("--help")
    assert done.returncode == 0 and recipe.calls() == []
    assert done.stdout.index("--train_set ") < done.stdout.index("Stages: 1 data") < done.stdout.index("--stop_stage ")


def prepare(recipe: Recipe, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe's real local/data.sh with the recording Python."""
    script = recipe.dir / "local" / "data.sh"
    shutil.copy(EGS2 / script.relative_to(recipe.dir.parents[1]), script)
    corpora = {"LIBRISPEECH": "/corpora/LibriSpeech", "IEMOCAP": "/corpora/IEMOCAP_full_release"}
    environment = os.environ | {"RECORD": str(recipe.record), "PYTHON": str(recipe.python)} | corpora
    return subprocess.run([script, *options], env=environment, text=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("recipe", ["librispeech", "librispeech_iemocap"], indirect=True)
def test_librispeech_is_downloaded_if_requested_and_prepared(recipe: Recipe) -> None:
    subsets = ["--subsets", "train-clean-100", "dev-clean"]
    options = ("--datadir", "my data", "--subsets", ",".join(subsets[1:]), "--nj", "3", "--check_counts", "false")
    done = prepare(recipe, *options, "--download", "true")
    assert done.returncode == 0, done.stderr
    assert calls(recipe, "download") == [["librispeech", "/corpora", *subsets]]
    expected = ["librispeech", "/corpora/LibriSpeech", "my data", *subsets, "--text_case", "lower"]
    assert calls(recipe, "prepare_data")[0] == [*expected, "--check_counts", "false", "--nj", "3"]


@pytest.mark.parametrize("protocol", ["superb", "emobox"])
@pytest.mark.parametrize(
    ("recipe", "options", "name", "task_options"),
    [
        ("iemocap", [], "ser", "--task ser --labels 4"),
        ("iemocap", ["--train_tasks", "asr", "--labels", "neu,sad"], "asr", "--task asr --text_case lower"),
        ("librispeech_iemocap", ["--subsets", "dev-clean"], "iemocap", ""),
    ],
    indirect=["recipe"],
)
def test_a_fold_of_iemocap_is_prepared_with_a_development_set_if_the_protocol_has_one(
    recipe: Recipe, options: list[str], name: str, task_options: str, protocol: str
) -> None:
    done = prepare(recipe, "--datadir", "data/a", "--protocol", protocol, "--fold", "2", *options)
    assert done.returncode == 0, done.stderr
    command = f"iemocap /corpora/IEMOCAP_full_release data/a --protocol {protocol} --fold 2 {task_options}"
    sets = f"--set_names train=train_{name} test=test_{name}" + (f" dev=dev_{name}" if protocol == "superb" else "")
    assert calls(recipe, "prepare_data")[-1] == f"{command} {sets}".split()


@pytest.mark.parametrize("recipe", ["iemocap", "librispeech", "librispeech_iemocap"], indirect=True)
def test_local_data_sh_prints_its_help_and_prepares_nothing(recipe: Recipe) -> None:
    done = prepare(recipe, "--help")
    assert done.returncode == 0 and done.stderr == "" and recipe.calls() == []
    assert "--datadir " in done.stdout
    assert ("--fold " in done.stdout, "--subsets " in done.stdout) == {
        "iemocap": (True, False),
        "librispeech": (False, True),
        "librispeech_iemocap": (True, True),
    }[recipe.dir.parent.name]
