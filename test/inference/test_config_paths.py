"""Paths in the config of a trained model: relative to the recipe, from any working directory; inside a packed model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.inference.config_paths import (
    may_be_hub_name,
    read_train_config,
    resolve_in_experiment,
    resolve_in_pack,
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a tokenizer and statistics."""
    for name in ("data/tokens/bpe.model", "exp/stats/feats_stats.npz", "exp/slm/config.yaml"):
        (tmp_path / "recipe" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recipe" / name).write_text("")
    return tmp_path / "recipe"


CONFIG = {"output_dir": "exp/slm", "tokenizer": "data/tokens", "feats_stats": "exp/stats/feats_stats.npz"}


@pytest.mark.parametrize("moved", [False, True])
def test_paths_are_found_from_another_folder_also_in_a_renamed_experiment(
    moved: bool, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (recipe / "exp/slm").rename(recipe / "exp/copy") if moved else recipe / "exp/slm"
    monkeypatch.chdir(tmp_path)
    config = dict(CONFIG)
    resolve_in_experiment(config, folder / "config.yaml")
    assert config["tokenizer"] == str(recipe / "data/tokens")
    assert config["feats_stats"] == str(recipe / "exp/stats/feats_stats.npz")


def test_the_working_directory_comes_first_and_the_depth_of_the_output_folder_counts(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe)
    config: dict[str, Any] = dict(CONFIG)
    resolve_in_experiment(config, Path("exp/slm/config.yaml"))
    assert config == CONFIG
    monkeypatch.chdir(tmp_path)
    config = {"output_dir": "exp", "tokenizer": "tok"}
    (recipe / "tok").mkdir()
    resolve_in_experiment(config, Path("recipe/exp/config.yaml"))
    assert Path(config["tokenizer"]).samefile(recipe / "tok")


def test_a_path_that_is_nowhere_is_named_with_both_places(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = recipe / "exp/slm/config.yaml"
    with pytest.raises(MissingFileError) as error:
        resolve_in_experiment({**CONFIG, "tokenizer": "data/token_list/x"}, where)
    assert str(error.value) == (
        f"{where}: tokenizer is data/token_list/x, which exists neither in {tmp_path} nor in {recipe}; stage 4 creates "
        "it"
    )
    with pytest.raises(MissingFileError) as error:
        resolve_in_experiment({**CONFIG, "feats_stats": "/absent/feats_stats.npz"}, where)
    assert (
        str(error.value) == f"{where}: feats_stats is /absent/feats_stats.npz, which does not exist; stage 5 creates it"
    )


def test_names_on_the_hub_stay_names(recipe: Path) -> None:
    names = {"tokenizer": "gpt2", "frontend_conf": {"model": "microsoft/wavlm-large"}, "decoder_conf": {"model": "a/b"}}
    config: dict[str, Any] = {**CONFIG, **names}
    resolve_in_experiment(config, recipe / "exp/slm/config.yaml")
    assert {name: config[name] for name in names} == names
    in_pack = dict(names)
    resolve_in_pack(in_pack, Path("config.yaml"), recipe)
    assert in_pack == names
    others = ["a/b/c", "/a", "./a", "bpe.model", "data/tokens", "exp/llm"]
    assert [name for name in ["gpt2", "a/b", *others] if may_be_hub_name(name)] == ["gpt2", "a/b"]


def test_paths_of_a_pack_are_inside_its_folder_whatever_the_working_directory_has(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "data" / "tokens"
    other.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = {"tokenizer": "data/tokens", "frontend_conf": {"model": None}, "decoder_conf": {}}
    resolve_in_pack(config, Path("config.yaml"), recipe)
    assert config["tokenizer"] == str(recipe / "data/tokens")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("/etc/passwd", "has an absolute name, but a packed model has relative paths only"),
        ("C:/tokens", "has an absolute name, but a packed model has relative paths only"),
        ("../../secret", "leads out of the folder ('..'), but a packed model has relative paths only"),
        ("data/../../secret", "leads out of the folder ('..'), but a packed model has relative paths only"),
        ("data/absent", "the packed model does not have"),  # not searched for on the Hub
        ("a/b/c", "the packed model does not have"),
    ],
)
@pytest.mark.parametrize(
    "keys", [("tokenizer",), ("ctc_tokenizer",), ("frontend_conf", "model"), ("decoder_conf", "model")]
)
def test_a_path_out_of_a_pack_is_refused(value: str, problem: str, keys: tuple[str, ...], recipe: Path) -> None:
    config: dict[str, Any] = {keys[0]: value if len(keys) == 1 else {keys[1]: value}}
    with pytest.raises(InputError) as error:
        resolve_in_pack(config, Path("m/config.yaml"), recipe)
    assert str(error.value) == (
        f"m/config.yaml: {'.'.join(keys)} is {value!r}, which {problem}; ask its author to pack it again (stage 9)"
    )


@pytest.mark.parametrize("value", [3, ["a"], {"a": 1}, "", True])
def test_a_value_that_is_no_path_is_refused(value: Any, recipe: Path) -> None:
    with pytest.raises(InputError) as error:
        resolve_in_pack({"tokenizer": value}, Path("config.yaml"), recipe)
    assert str(error.value) == f"config.yaml: tokenizer is {value!r}, but must be a path or a name; correct it"


def test_objects_of_python_in_a_config_are_not_created(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"a: 1\nevil: !!python/object/apply:os.system ['touch {tmp_path}/RAN']\n")
    with pytest.raises(InputError) as error:
        read_train_config(path)
    assert not (tmp_path / "RAN").exists()
    assert str(error.value) == (
        f"{path}:2: not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'; correct it"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"- a\n- b\n", "expected a mapping of options to values, found list"),
        (b"", "expected a mapping of options to values, found NoneType"),
        (b"1: a\n", "expected a mapping of options to values, found the key 1"),
    ],
)
def test_a_config_that_is_no_mapping_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_train_config(tmp_path / "config.yaml")
    assert str(error.value) == f"{tmp_path}/config.yaml: {problem}; correct it"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(InputError) as error:
        read_train_config(tmp_path / "config.yaml")
    assert str(error.value) == (
        f"{tmp_path}/config.yaml:1: byte 0xFF is not UTF-8; convert the file from its encoding, for example: iconv -f "
        "ISO-8859-1 -t UTF-8"
    )


def test_yaml_reads_what_stage_6_writes(tmp_path: Path) -> None:
    config = {**CONFIG, "tasks": {"asr": {"answer": "text", "prompts": ["Écris"]}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_train_config(tmp_path / "config.yaml") == config
