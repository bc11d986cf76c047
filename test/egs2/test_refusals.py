"""Errors of the recipes' shell: missing inputs and bad options, each with its message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Recipe

TAG = "exp/train_raw_unigram_100"


@pytest.mark.parametrize(
    ("stage", "missing", "creator"),
    [
        (2, "data/dev_ser/wav.scp", 1),
        (4, "dump/raw/train/text", 2),
        (5, "data/token_list/unigram_100/tokens.txt", 4),
        (5, "dump/raw/valid/wav.scp", 2),
        (6, "exp/stats_raw_unigram_100/train/speech_shape", 5),
        (7, f"{TAG}/valid.acc.ave.pth", 6),
        (8, f"{TAG}/decode_valid.acc.ave/test_asr/text", 7),
        (9, f"{TAG}/config.yaml", 6),
        (10, f"{TAG}/model.zip", 9),
    ],
)
def test_a_stage_names_a_missing_file_and_the_stage_that_creates_it(
    mini: Recipe, stage: int, missing: str, creator: int
) -> None:
    mini.run()
    (mini.dir / missing).unlink()
    done = mini.run("--stage", str(stage), "--stop_stage", str(stage), "--upload_repo", "user/name")
    assert done.returncode == 1
    remedy = f"./run.sh --stage {creator} --stop_stage {creator}"
    assert f"error: stage {stage} needs {missing}, created by stage {creator}: {remedy}\n" in done.stdout


def test_missing_features_are_created_by_stage_3(mini: Recipe) -> None:
    mini.run("--stop_stage", "4")
    done = mini.run("--stage", "5", "--feats_type", "fbank")
    assert "stage 5 needs dump/fbank/train/feats.scp, created by stage 3" in done.stdout


def test_data_preparation_that_leaves_out_a_set_is_an_error(mini: Recipe) -> None:
    done = mini.run("--stop_stage", "1", "--test_sets", "test_asr test_other")
    assert done.returncode == 1
    assert "local/data.sh did not create data/test_other" in done.stdout


def test_a_missing_configuration_is_named(mini: Recipe) -> None:
    mini.run("--stop_stage", "4")
    done = mini.run("--stage", "5", "--train_config", "conf/other.yaml")
    assert done.returncode == 1
    assert f"stage 5 needs {mini.dir}/conf/other.yaml" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stge", "3"], "unknown option --stge; similar options: --stage --stop_stage (--help lists all)"),
        (["--xyz", "3"], "unknown option --xyz; similar options: none (--help lists all)"),
        (["--stage"], "option --stage needs a value"),
        (["--stage", "--nj", "3"], "option --stage needs a value, but the option --nj follows"),
        (["6"], "unexpected argument '6'"),
        (
            ["--train_args", "--max_epoch", "3"],
            "unexpected argument '3'; write --name value, and quote a value with spaces",
        ),
        (["--stage", "six"], "--stage is 'six', but must be a whole number"),
        (["--nj", "0"], "--nj and --nproc must be 1 or more"),
        (["--stage", "8", "--stop_stage", "7"], "--stage 8 --stop_stage 7 selects no stage; the stages are 1 to 10"),
        (
            ["--stage", "11", "--stop_stage", "12"],
            "--stage 11 --stop_stage 10 selects no stage; the stages are 1 to 10",
        ),
        (["--feats_type", "mfcc"], "--feats_type is 'mfcc', but must be one of: raw fbank ssl"),
        (["--skip_bad", "yes"], "--skip_bad is 'yes', but must be one of: true false"),
        (["--align", "yes"], "--align is 'yes', but must be one of: true false"),
        (
            ["--align", "true"],
            "--align true needs --feats_type raw and a --pretrain_config that trains speech recognition",
        ),
        (["--test_sets", ""], "--test_sets is empty; name at least one data set"),
        (["--test_sets", "valid"], "the test set 'valid' would overwrite dump/raw/valid"),
        (["--python", "/no/python"], "no Python at '/no/python'; create the environment"),
        (["--stage", "10", "--stop_stage", "10"], "stage 10 needs --upload_repo user/name"),
    ],
)
def test_a_bad_option_is_refused_before_anything_runs(mini: Recipe, options: list[str], message: str) -> None:
    done = mini.run(*options)
    assert done.returncode == 1
    assert f"error: {message}" in done.stdout
    assert mini.calls() == []


def test_the_name_of_an_option_may_be_written_with_hyphens(mini: Recipe) -> None:
    mini.run("--stop-stage", "2")
    assert mini.commands() == ["format_audio"] * 5
