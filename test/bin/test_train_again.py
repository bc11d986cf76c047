"""Stage 6 called again in the same folder: continued, complete, refused, or started afresh."""

from __future__ import annotations

import os
import pickle
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import Recipe

from harmonifuse_espnet.bin.decode import main as decode
from harmonifuse_espnet.bin.train import main
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.data.tokenizer_training import train_sentencepiece


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def trained(recipe: Recipe) -> Path:
    """An experiment of two epochs."""
    return recipe.train("trained", max_epoch=2, resume="true")


def refused(capsys: pytest.CaptureFixture[str], command: Any, words: list[str]) -> str:
    """Run a command, which must fail, and return the single line of its error."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        command(words)
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in text
    return lines[0].removeprefix("error: ")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The modification time and the content of each file."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_complete_training_is_not_touched(recipe: Recipe, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(trained)
    capsys.readouterr()
    recipe.train("trained", max_epoch=2, resume="true", log_interval=1)
    assert f"{trained}: training is complete (2 epochs or more); nothing to do" in capsys.readouterr().out
    assert contents(trained) == before


def test_another_configuration_is_refused_before_anything_is_written(
    recipe: Recipe, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(trained)
    command = recipe.train_command("trained", max_epoch=3, resume="true", seed=7)
    assert refused(capsys, main, command) == (
        f"{trained} has a training with other options or data: seed was {recipe_seed(trained)}, is now 7; undo the "
        "change, choose another folder (run.sh: --tag), or remove that training and start again with --fresh true"
    )
    assert contents(trained) == before


def recipe_seed(experiment: Path) -> int:
    return int(yaml.safe_load((experiment / "config.yaml").read_text())["seed"])


def test_more_epochs_continue_the_training(recipe: Recipe) -> None:
    recipe.train("longer", max_epoch=1, resume="true")
    recipe.train("longer", max_epoch=2, resume="true")
    config = yaml.safe_load((recipe.folder / "longer/config.yaml").read_text())
    assert config["max_epoch"] == 2 and (recipe.folder / "longer/2epoch.pth").exists()
    assert config["made_from"]["tokenizer"] and not config["fresh"]


def test_fresh_starts_again(recipe: Recipe) -> None:
    recipe.train("fresh", max_epoch=2, resume="true")
    recipe.train("fresh", max_epoch=1, resume="true", fresh="true", seed=7)
    assert recipe_seed(recipe.folder / "fresh") == 7
    assert not (recipe.folder / "fresh/2epoch.pth").exists()


def test_a_second_process_is_told_who_trains(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock of a child process, since a process can lock a file of its own again."""
    folder = recipe.folder / "busy"
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with lock_folder(folder):
            os.write(ready[1], b"1")
            os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    message = refused(capsys, main, recipe.train_command("busy", resume="true"))
    os.write(done[1], b"1")
    os.waitpid(child, 0)
    assert re.sub(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "since <time>", message) == (
        f"{folder}: process {child} on {socket.gethostname()}, since <time>, is working in this folder; wait until it "
        f"has ended, or stop it: kill {child}"
    )
    assert not list(folder.glob("*.pth"))


def test_initial_parameters_with_code_are_refused(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "RAN"),)

    torch.save({"weight": Payload()}, tmp_path / "stranger.pth", pickle_module=pickle)
    message = refused(capsys, main, recipe.train_command("start", init_param=tmp_path / "stranger.pth"))
    assert message == (
        f"{tmp_path}/stranger.pth: this pickle file needs posix.mkdir, which would run code of the file's author; ask "
        "for a model whose weights are a .safetensors file"
    )
    assert not (tmp_path / "RAN").exists()


def test_a_tokenizer_that_was_made_again_under_a_model_is_refused(
    recipe: Recipe, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    model = Path(config["tokenizer"]) / "bpe.model"
    content = model.read_bytes()
    model.write_bytes(train_sentencepiece(["OTHER WORDS THAN BEFORE"], [], 60, "char"))
    try:
        data = config["valid_data_path_and_name_and_type"][0][0]
        words = ["--train_config", trained / "config.yaml", "--model_file", trained / "2epoch.pth"]
        words += ["--data_dir", Path(data).parent, "--out_dir", trained / "decode"]
        message = refused(capsys, decode, [str(word) for word in words])
    finally:
        model.write_bytes(content)
    assert re.sub("[0-9a-f]{16}", "<c>", message) == (
        f"{trained}/2epoch.pth: the model was trained with a tokenizer of checksum <c>, but {model.parent} has the "
        "checksum <c>: it was made again since; restore it, or train the model again with --fresh true"
    )
