"""A call of training that does not belong to the training in its folder is refused."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.provenance import checksum
from harmonifuse_espnet.train.identity import (
    LOG,
    check_same_training,
    check_tokenizer,
    is_finished,
    made_from,
    record_finished,
    remove_training,
)


def options(folder: Path, **changes: Any) -> argparse.Namespace:
    """Training options in a folder with tables, a tokenizer and statistics."""
    (folder / "tok").mkdir(exist_ok=True)
    for name, content in (("tok/bpe.model", "1"), ("text", "u YES\n"), ("utt2task", "u asr\n"), ("shape", "u 5\n")):
        if not (folder / name).exists():
            (folder / name).write_text(content)
    tables = [(str(folder / "wav.scp"), "speech", "sound"), (str(folder / "text"), "text", "text")]
    values = {
        "output_dir": str(folder / "exp"),
        "tokenizer": str(folder / "tok"),
        "ctc_tokenizer": None,
        "feats_stats": None,
        "preprocessor_conf": {},
        "model_conf": {"word_dropout": 0.1},
        "optim_conf": {"lr": 0.002, "betas": (0.9, 0.98)},
        "seed": 1,
        "max_epoch": 4,
        "num_workers": 1,
        "train_data_path_and_name_and_type": tables,
        "valid_data_path_and_name_and_type": tables,
        "train_shape_file": [str(folder / "shape")],
        "valid_shape_file": [str(folder / "shape")],
    }
    return argparse.Namespace(**{**values, **changes})


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder with a training; ``config.yaml`` is as ESPnet writes it."""
    args = options(tmp_path)
    exp = tmp_path / "exp"
    exp.mkdir()
    config = {**vars(args), "made_from": made_from(args)}
    (exp / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(yaml.dump(config).replace("!!python/tuple", ""))))
    (exp / "checkpoint.pth").touch()
    return tmp_path


def test_the_same_training_is_continued(trained: Path) -> None:
    check_same_training(options(trained))
    check_same_training(options(trained, max_epoch=9, num_workers=0))


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        ({"seed": 7}, "seed was 1, is now 7"),
        ({"optim_conf": {"lr": 0.5, "betas": (0.9, 0.98)}}, "optim_conf.lr was 0.002, is now 0.5"),
        ({"model_conf": {}}, "model_conf.word_dropout was 0.1, is now not set"),
    ],
)
def test_another_option_is_refused(trained: Path, changes: dict[str, Any], change: str) -> None:
    before = (trained / "exp/config.yaml").read_text()
    with pytest.raises(InputError) as error:
        check_same_training(options(trained, **changes))
    assert str(error.value) == (
        f"{trained}/exp has a training with other options or data: {change}; undo the change, choose another folder "
        "(run.sh: --tag), or remove that training and start again with --fresh true"
    )
    assert (trained / "exp/config.yaml").read_text() == before


@pytest.mark.parametrize("name", ["text", "shape", "tok/bpe.model"])
def test_other_data_are_refused(trained: Path, name: str) -> None:
    path = trained / name
    path.write_text(path.read_text() + "v NO\n")
    with pytest.raises(InputError) as error:
        check_same_training(options(trained))
    message = re.sub("checksum [0-9a-f]{16}", "checksum <c>", str(error.value))
    message = re.sub("tokenizer was [0-9a-f]{16}, is now [0-9a-f]{16}", "tokenizer was <c>, is now <c>", message)
    change = (
        "tokenizer was <c>, is now <c>"
        if name == "tok/bpe.model"
        else f"train {name} was 1 utterances, checksum <c>, is now 2 utterances, checksum <c>"
    )
    assert f"has a training with other options or data: made_from.{change}; undo" in message


def test_a_folder_without_weights_or_with_an_older_configuration_is_accepted(trained: Path) -> None:
    config = yaml.safe_load((trained / "exp/config.yaml").read_text())
    del config["made_from"], config["seed"]
    config["model_conf"] = {"answer_dropout": 0.1}  # its name before 0.2.0
    (trained / "exp/config.yaml").write_text(yaml.safe_dump(config))
    check_same_training(options(trained, seed=3))
    (trained / "exp/checkpoint.pth").unlink()
    check_same_training(options(trained, optim_conf={}))


def test_a_finished_training_is_recognised_until_a_file_is_missing(trained: Path) -> None:
    args = options(trained)
    assert not is_finished(args)
    record_finished(args)
    assert is_finished(args) and not is_finished(options(trained, max_epoch=5))
    (trained / "exp/checkpoint.pth").unlink()
    assert not is_finished(args)


def test_fresh_removes_everything_but_the_log(trained: Path) -> None:
    exp = trained / "exp"
    (exp / "images").mkdir()
    (exp / LOG).touch()
    (exp / "latest.pth").symlink_to("checkpoint.pth")
    remove_training(exp)
    assert [path.name for path in exp.iterdir()] == [LOG]
    remove_training(trained / "none")


class Named:
    def __init__(self, name: Path) -> None:
        self.name = str(name)


def test_a_tokenizer_that_was_made_again_is_refused(trained: Path) -> None:
    recorded = made_from(options(trained))
    tokenizer: Any = Named(trained / "tok")
    check_tokenizer(tokenizer, recorded, "tokenizer", "exp/1epoch.pth")
    check_tokenizer(tokenizer, {}, "tokenizer", "exp/1epoch.pth")
    (trained / "tok/bpe.model").write_text("2")
    with pytest.raises(InputError) as error:
        check_tokenizer(tokenizer, recorded, "tokenizer", "exp/1epoch.pth")
    assert str(error.value) == (
        f"exp/1epoch.pth: the model was trained with a tokenizer of checksum {recorded['tokenizer']}, but "
        f"{trained}/tok has the checksum {checksum(trained / 'tok')}: it was made again since; restore it, or train "
        "the model again with --fresh true"
    )
