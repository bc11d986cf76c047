"""Packed models: ESPnet's tools unpack them in any folder, and the paths in the config are those of the files."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from harmonifuse_espnet import __version__
from harmonifuse_espnet.bin.pack import main
from harmonifuse_espnet.model.checkpoint import load_weights

WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.ones(2)}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the folder of a trained recipe: sentencepiece model, tokenizer folder, statistics, images."""
    folder = tmp_path / "recipe"
    files = {
        "data/token_list/unigram_100/bpe.model": "pieces",
        "data/llm/tokenizer.json": "{}",
        "data/llm/sub/merges.txt": "a b",
        "exp/stats/train/feats_stats.npz": "numbers",
        "images/slm_curves.png": "picture",
        "RESULTS.md": "# RESULTS\n\n![curves](images/slm_curves.png) ![logo](https://example.org/a.png)\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "exp/slm").mkdir(parents=True)
    torch.save(WEIGHTS, folder / "exp/slm/valid.loss.ave.pth")
    write_config(folder, {})
    monkeypatch.chdir(folder)
    return folder


def write_config(folder: Path, changes: dict[str, object]) -> None:
    config = {
        "tokenizer": "data/token_list/unigram_100/bpe.model",
        "ctc_tokenizer": "data/llm",
        "feats_stats": str(folder / "exp/stats/train/feats_stats.npz"),  # absolute paths are allowed
        "decoder_conf": {"config": {"model_type": "qwen2"}},
        "tasks": {"asr": {"answer": "text", "prompts": ["transcribe"]}},
    }
    (folder / "exp/slm/config.yaml").write_text(yaml.safe_dump(config | changes))


def pack(*options: str) -> Path:
    main(
        [
            "--train_config",
            "exp/slm/config.yaml",
            "--model_file",
            "exp/slm/valid.loss.ave.pth",
            "--out",
            "m.zip",
            *options,
        ]
    )
    return Path("m.zip").resolve()


def check_unpacked(names: dict[str, str], folder: Path) -> None:
    """Check the unpacked files, and that the paths in the config are in ``folder``."""
    config = yaml.safe_load(Path(names["train_config"]).read_text())
    assert torch.equal(load_weights(names["model_file"])["head.weight"], WEIGHTS["head.weight"])
    for key in ("tokenizer", "ctc_tokenizer", "feats_stats"):
        assert folder in Path(config[key]).resolve().parents, key
    assert Path(config["tokenizer"]).read_text() == "pieces"
    assert (Path(config["ctc_tokenizer"]) / "sub" / "merges.txt").read_text() == "a b"
    assert Path(config["feats_stats"]).read_text() == "numbers"
    assert config["tasks"] == {"asr": {"answer": "text", "prompts": ["transcribe"]}}


@pytest.mark.filterwarnings("ignore")
def test_espnet_model_zoo_unpacks_the_archive_in_another_folder(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espnet_model_zoo.downloader import ModelDownloader

    packed, folder = pack(), tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    recipe.rename(tmp_path / "moved away")
    names = ModelDownloader(folder / "cache").download_and_unpack(str(tmp_path / "moved away" / packed.name))
    check_unpacked(names, folder)


def test_espnet_model_zoo_finds_the_files_of_a_snapshot_from_the_hub(recipe: Path, tmp_path: Path) -> None:
    from espnet_model_zoo.downloader import ModelDownloader

    folder = tmp_path / "snapshot"
    zipfile.ZipFile(pack()).extractall(folder)
    check_unpacked(ModelDownloader._unpack_cache_dir_for_huggingfase(str(folder)), folder)


def test_the_archive_has_no_absolute_paths(recipe: Path) -> None:
    with zipfile.ZipFile(pack("--readme", "RESULTS.md")) as archive:
        assert not any(Path(name).is_absolute() or ".." in name for name in archive.namelist())
        assert str(recipe) not in archive.read("exp/slm/config.yaml").decode()
        assert archive.read("images/slm_curves.png") == b"picture"
        assert archive.read("RESULTS.md").startswith(b"# RESULTS")


@pytest.mark.parametrize(("changes", "version"), [({"format_version": 2}, 2), ({}, 1)])
def test_the_archive_has_the_versions_of_its_format_and_of_the_package(
    recipe: Path, changes: dict[str, object], version: int
) -> None:
    """Configs older than ``format_version`` have format 1."""
    write_config(recipe, changes)
    with zipfile.ZipFile(pack()) as archive:
        meta = yaml.safe_load(archive.read("meta.yaml"))
        config = yaml.safe_load(archive.read(meta["yaml_files"]["train_config"]))
    assert meta["harmonifuse_espnet"] == {"format_version": version, "version": __version__}
    assert config.get("format_version", 1) == version


@pytest.mark.filterwarnings("ignore")
def test_espnet_s_unpack_returns_the_config_and_the_checkpoint(recipe: Path, tmp_path: Path) -> None:
    from espnet2.main_funcs.pack_funcs import unpack

    folder = tmp_path / "unpacked"
    names = unpack(pack(), folder)
    assert names == {
        "train_config": str(folder / "exp/slm/config.yaml"),
        "model_file": str(folder / "exp/slm/valid.loss.ave.safetensors"),
    }
    check_unpacked(names, folder)


def test_the_same_content_gives_the_same_archive(recipe: Path) -> None:
    first = pack().read_bytes()
    (recipe / "exp/slm/valid.loss.ave.pth").touch()
    assert pack().read_bytes() == first


def test_pretrained_models_are_packed_if_they_are_folders_and_kept_as_hub_names(recipe: Path) -> None:
    changes = {
        "frontend_conf": {"model": "data/llm"},
        "decoder_conf": {"model": "Qwen/Qwen2.5-0.5B"},
        "tokenizer": "gpt2",
    }
    write_config(recipe, changes)
    with zipfile.ZipFile(pack()) as archive:
        config = yaml.safe_load(archive.read("exp/slm/config.yaml"))
        assert archive.read("data/frontend_conf.model/tokenizer.json") == b"{}"
    assert config["frontend_conf"]["model"] == "data/frontend_conf.model"
    assert (config["decoder_conf"]["model"], config["tokenizer"]) == ("Qwen/Qwen2.5-0.5B", "gpt2")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("exp/slm/valid.loss.ave.pth", "exp/slm/valid.loss.ave.pth: no such file; stage 6 creates it"),
        ("exp/slm/config.yaml", "exp/slm/config.yaml: no such file; stage 6 creates it"),
        (
            "data/token_list/unigram_100/bpe.model",
            "exp/slm/config.yaml: tokenizer is data/token_list/unigram_100/bpe.model, which does not exist; stage "
            "4 creates it",
        ),
        (
            "exp/stats/train/feats_stats.npz",
            "exp/slm/config.yaml: feats_stats is {0}/exp/stats/train/feats_stats.npz, which does not exist; stage 5 "
            "creates it",
        ),
        ("images/slm_curves.png", "RESULTS.md: the image images/slm_curves.png does not exist; stage 8 creates it"),
    ],
)
def test_a_missing_file_is_named_with_its_stage(
    recipe: Path, capsys: pytest.CaptureFixture[str], missing: str, message: str
) -> None:
    (recipe / missing).unlink()
    with pytest.raises(SystemExit, match="1"):
        pack("--readme", "RESULTS.md")
    assert capsys.readouterr().err.endswith(f"{message.format(recipe)}\n")
    assert list(recipe.glob("*.zip")) == []


def test_a_full_disk_leaves_the_old_archive_and_no_partial_one(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipe / "m.zip").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harmonifuse_espnet.inference.packing.shutil.copyfileobj", full)
    with pytest.raises(SystemExit, match="1"):
        pack()
    assert "No space left on device" in capsys.readouterr().err
    assert (recipe / "m.zip").read_text() == "old"
    assert [path.name for path in recipe.iterdir() if "m.zip" in path.name] == ["m.zip"]


def test_an_archive_that_is_not_a_zip_file_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        pack("--out", "m.tar.gz")
    assert "m.tar.gz: the name of the archive must end in .zip" in capsys.readouterr().err


def test_hidden_files_are_left_out(recipe: Path) -> None:
    """A killed call left a temporary file in the tokenizer's folder."""
    expected = pack().read_bytes()
    (recipe / "data/llm/.tokenizer.json.999").write_text("{")
    (recipe / "data/llm/sub/.DS_Store").write_text("")
    (recipe / "data/llm/.cache").mkdir()
    (recipe / "data/llm/.cache/file").write_text("")
    assert pack().read_bytes() == expected


def test_the_weights_are_safetensors_with_the_name_of_the_checkpoint(recipe: Path) -> None:
    with zipfile.ZipFile(pack()) as archive:
        assert yaml.safe_load(archive.read("meta.yaml"))["files"] == {
            "model_file": "exp/slm/valid.loss.ave.safetensors"
        }
        weights = safetensors.torch.load(archive.read("exp/slm/valid.loss.ave.safetensors"))
        assert not [name for name in archive.namelist() if name.endswith(".pth")]
    assert all(torch.equal(weights[name], weight) for name, weight in WEIGHTS.items())


def test_a_checkpoint_that_would_run_code_is_not_packed(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {recipe}/RAN",)

    torch.save({**WEIGHTS, "zz": Payload()}, recipe / "exp/slm/valid.loss.ave.pth")
    with pytest.raises(SystemExit, match="1"):
        pack()
    assert capsys.readouterr().err == (
        f"error: exp/slm/valid.loss.ave.pth: this pickle file needs {os.name}.system, which would run code of the "
        "file's author; ask for a model whose weights are a .safetensors file\n"
    )
    assert not [path.name for path in recipe.iterdir() if path.name in ("RAN", "m.zip") or path.name.startswith(".")]


def test_paths_of_the_training_become_relative_and_other_absolute_paths_are_refused(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [[f"{recipe}/dump/wav.scp", "speech", "sound"], ["/corpora/text", "text", "text"]]
    training = {
        "output_dir": f"{recipe}/exp/slm",
        "train_data_path_and_name_and_type": data,
        "config": "/home/me/a.yaml",
    }
    prompts = {"tasks": {"asr": {"answer": "text", "prompts": ["/no_think transcribe"]}}}
    write_config(recipe, {**training, **prompts})
    with zipfile.ZipFile(pack()) as archive:
        config = yaml.safe_load(archive.read("exp/slm/config.yaml"))
    assert {name: config[name] for name in training} == {
        "output_dir": "exp/slm",
        "train_data_path_and_name_and_type": [["dump/wav.scp", "speech", "sound"], ["text", "text", "text"]],
        "config": "a.yaml",
    }
    assert config["tasks"] == prompts["tasks"]
    write_config(recipe, {"frontend_conf": {"lexicon": ["/home/me/words.txt"]}})
    with pytest.raises(SystemExit, match="1"):
        pack()
    assert capsys.readouterr().err == (
        "error: exp/slm/config.yaml: frontend_conf.lexicon is the absolute path /home/me/words.txt, but a packed model "
        "has relative paths only; remove it\n"
    )


def test_a_recipe_is_packed_from_another_folder(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(recipe, {"output_dir": "exp/slm"})
    expected = pack().read_bytes()
    monkeypatch.chdir(tmp_path)
    files = ["--train_config", "recipe/exp/slm/config.yaml", "--model_file", "recipe/exp/slm/valid.loss.ave.pth"]
    main([*files, "--out", "other.zip"])
    assert (tmp_path / "other.zip").read_bytes() == expected


def test_temporary_files_of_a_killed_call_are_removed_by_the_next_one(recipe: Path) -> None:
    code = (
        "import os, sys\nfrom harmonifuse_espnet.inference import packing\nfrom harmonifuse_espnet.bin import pack\n"
        "packing.shutil.copyfileobj = lambda *_: os.kill(os.getpid(), 9)\npack.main(sys.argv[1:])\n"
    )
    options = ["--train_config", "exp/slm/config.yaml", "--model_file", "exp/slm/valid.loss.ave.pth", "--out", "m.zip"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", code, *options], env=environment)
    assert killed.returncode == -9
    assert len([path for path in recipe.iterdir() if path.name.startswith(".m.zip.")]) == 2
    pack()
    assert [path.name for path in recipe.iterdir() if "m.zip" in path.name] == ["m.zip"]


def test_missing_files_are_reported_before_pytorch_is_imported(recipe: Path) -> None:
    code = (
        "import sys\nfrom harmonifuse_espnet.bin import pack\n"
        "try:\n    pack.main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    options = ["--train_config", "exp/slm/config.yaml", "--model_file", "exp/slm/absent.pth", "--out", "m.zip"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, *options], env=environment, capture_output=True, text=True)
    assert done.stderr == "error: exp/slm/absent.pth: no such file; stage 6 creates it\n" and done.returncode == 1
