"""Packed models from anyone: loaded from archives, folders and the Hub; none runs code or writes outside the cache."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load, save
from tiny import TABLE, Recipe, noise

from harmonifuse_espnet.bin import pack
from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError, UserError
from harmonifuse_espnet.inference.packed_model import find_packed_model
from harmonifuse_espnet.inference.speech2text import Speech2Text

CONFIG, WEIGHTS = "exp/exp/config.yaml", "exp/exp/valid.loss.ave.safetensors"
OLD_WEIGHTS = "exp/exp/valid.loss.ave.pth"
AGAIN = "ask its author to pack it again (stage 9)"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Recipe(tmp_path_factory.mktemp("recipe")).train("exp")


@pytest.fixture(scope="module")
def good(experiment: Path) -> Path:
    """The packed model."""
    files = ["--train_config", str(experiment / "config.yaml"), "--model_file", str(experiment / "valid.loss.ave.pth")]
    pack.main([*files, "--out", str(experiment / "good.zip")])
    return experiment / "good.zip"


@pytest.fixture(scope="module")
def expected(experiment: Path) -> dict[str, Any]:
    model = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    return {task: model(noise(9000), task) for task in TABLE}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the working directory is another folder."""
    monkeypatch.setenv("HARMONIFUSE_MODEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "cache"


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return path


def old_layout(files: Mapping[str, bytes], experiment: Path) -> dict[str, bytes]:
    """Return the files of a pack as version 0.1 wrote them: the checkpoint itself, a file of torch.save."""
    changed = {name: content for name, content in files.items() if name != WEIGHTS}
    changed["meta.yaml"] = changed["meta.yaml"].replace(WEIGHTS.encode(), OLD_WEIGHTS.encode())
    return {**changed, OLD_WEIGHTS: (experiment / "valid.loss.ave.pth").read_bytes()}


def results(model: Speech2Text) -> dict[str, Any]:
    return {task: model(noise(9000), task) for task in TABLE}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "folder", "old zip"])
def test_a_packed_model_gives_the_results_of_the_experiment_from_any_folder(
    kind: str, good: Path, experiment: Path, expected: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    files = old_layout(contents(good), experiment) if kind == "old zip" else contents(good)
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(write(tmp_path / "m.zip", files)).extractall(folder)
    name = {"zip": good, "folder": Path("../unpacked")}.get(kind, tmp_path / f"m.{kind.removeprefix('old ')}")
    if kind in ("tar", "tgz"):
        with tarfile.open(name, "w:gz" if kind == "tgz" else "w") as opened:
            opened.add(folder, ".")
    assert results(Speech2Text.from_pretrained(name)) == expected
    assert cache.exists() == (kind != "folder")
    assert results(Speech2Text.from_pretrained(str(name))) == expected  # from the cache


def test_the_archive_has_safe_weights_relative_paths_and_no_names_of_the_machine(good: Path, experiment: Path) -> None:
    """The tiny recipe was trained with absolute paths only."""
    files = contents(good)
    assert WEIGHTS in files and not any(name.endswith(".pth") for name in files)
    weights = load(files[WEIGHTS])
    state = torch.load(experiment / "valid.loss.ave.pth")
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)
    assert str(experiment.parent).encode() not in files[CONFIG] + files["meta.yaml"]
    config = yaml.safe_load(files[CONFIG])
    assert config["tokenizer"] == "data/tokenizer" and config["output_dir"] == "exp"
    assert config["train_data_path_and_name_and_type"][0] == ["wav.scp", "speech", "sound"]


def test_a_model_packed_again_under_the_same_path_is_loaded_again(
    good: Path, expected: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.zip", contents(good))
    first = Speech2Text.from_pretrained(path)
    doubled = {name: weight * 2 for name, weight in load(contents(good)[WEIGHTS]).items()}
    write(path, {**contents(good), WEIGHTS: save(doubled)})
    second = Speech2Text.from_pretrained(path)
    name = "connector.project.0.weight"
    assert torch.equal(second.model.state_dict()[name], 2 * first.model.state_dict()[name])


def test_a_torn_cache_is_unpacked_again(good: Path, expected: dict[str, Any], cache: Path) -> None:
    Speech2Text.from_pretrained(good)
    (weights,) = cache.rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    assert results(Speech2Text.from_pretrained(good)) == expected


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def with_payload(traces: Path, experiment: Path, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    state = {**torch.load(experiment / "valid.loss.ave.pth"), "zz": Payload(traces)}
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_pickle_of_an_older_pack_does_not_run(
    legacy: bool, good: Path, experiment: Path, cache: Path, tmp_path: Path
) -> None:
    files = {**old_layout(contents(good), experiment), OLD_WEIGHTS: with_payload(tmp_path / "RAN", experiment, legacy)}
    path = write(tmp_path / "m.zip", files)
    with pytest.raises(InputError) as error:
        Speech2Text.from_pretrained(path)
    assert not (tmp_path / "RAN").exists()
    assert str(error.value) == (
        f"{path}: {OLD_WEIGHTS}: this pickle file needs {os.name}.system, which would run code of the file's author; "
        "ask for a model whose weights are a .safetensors file"
    )


def test_a_pickle_called_safetensors_does_not_run(good: Path, cache: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "m.zip", {**contents(good), WEIGHTS: pickle.dumps(Payload(tmp_path / "RAN"))})
    with pytest.raises(InputError) as error:
        Speech2Text.from_pretrained(path)
    assert not (tmp_path / "RAN").exists()
    assert str(error.value).startswith(f"{path}: {WEIGHTS}: damaged or incomplete, ")


Change = Callable[[dict[str, bytes], Path], dict[str, bytes]]


def evil_yaml(outside: Path) -> bytes:
    return f"\nevil: !!python/object/apply:os.system ['touch {outside}/RAN']\n".encode()


def meta_names(entry: str, value: str, member: str | None = None) -> Change:
    """Let ``meta.yaml`` name a file outside; ``member`` is also in the archive."""

    def change(files: dict[str, bytes], outside: Path) -> dict[str, bytes]:
        meta = yaml.safe_load(files["meta.yaml"])
        section, key = entry.split(".")
        meta[section][key] = value.format(outside)
        added = {} if member is None else {member.format(outside): b"a: 1\n"}
        return {**files, "meta.yaml": yaml.safe_dump(meta).encode(), **added}

    return change


def changed(name: str, change: Callable[[bytes, Path], bytes]) -> Change:
    return lambda files, outside: {**files, name: change(files[name], outside)}


def config_with(**fields: Any) -> Change:
    def change(content: bytes, outside: Path) -> bytes:
        return yaml.safe_dump({**yaml.safe_load(content), **fields}).encode()

    return changed(CONFIG, change)


TAG = (
    "{}: not valid YAML: could not determine a constructor for the tag "
    "'tag:yaml.org,2002:python/object/apply:os.system'; correct it"
)
OUT = "leads out of the folder ('..')"
ATTACKS: dict[str, tuple[Change, str]] = {
    "python in meta.yaml": (
        changed("meta.yaml", lambda content, outside: content + evil_yaml(outside)),
        "{0}: meta.yaml:" + TAG.format(12),
    ),
    "absolute yaml_files with a member of that name": (
        meta_names("yaml_files.other", "{}/victim", "{}/victim"),
        "{0}: the member '{1}/victim' has an absolute name, so nothing was unpacked; get the model from a source that "
        "you trust",
    ),
    "absolute yaml_files": (
        meta_names("yaml_files.other", "{}/victim"),
        f"{{0}}: meta.yaml: yaml_files.other is '{{1}}/victim', which has an absolute name; {AGAIN}",
    ),
    "yaml_files outside": (
        meta_names("yaml_files.train_config", "../../../victim"),
        f"{{0}}: meta.yaml: yaml_files.train_config is '../../../victim', which {OUT}; {AGAIN}",
    ),
    "files outside": (
        meta_names("files.model_file", "exp/../../../victim"),
        f"{{0}}: meta.yaml: files.model_file is 'exp/../../../victim', which {OUT}; {AGAIN}",
    ),
    "a file that is not there": (
        meta_names("files.model_file", "exp/other.pth"),
        f"{{0}}: meta.yaml: files.model_file is 'exp/other.pth', which the packed model does not have; {AGAIN}",
    ),
    "python in config.yaml": (
        changed(CONFIG, lambda content, outside: b"a: 1" + evil_yaml(outside)),
        f"{{0}}: {CONFIG}:" + TAG.format(2),
    ),
    "an absolute tokenizer": (
        config_with(tokenizer="/etc/passwd"),
        f"{{0}}: {CONFIG}: tokenizer is '/etc/passwd', which has an absolute name, but a packed model has relative "
        f"paths only; {AGAIN}",
    ),
    "a model outside": (
        config_with(decoder_conf={"model": "../../../llm"}),
        f"{{0}}: {CONFIG}: decoder_conf.model is '../../../llm', which {OUT}, but a packed model has relative paths "
        f"only; {AGAIN}",
    ),
    "trust_remote_code in decoder_conf": (
        config_with(decoder_conf={"config": {"model_type": "qwen2", "trust_remote_code": True}}),
        "decoder_conf: config has trust_remote_code: True, but code of a model's author is not run; remove it",
    ),
    "trust_remote_code beside the model": (
        config_with(decoder_conf={"model": "a/b", "trust_remote_code": True}),
        "decoder_conf: LanguageModel has no argument ['trust_remote_code']; known are ['model', 'config', 'lora', "
        "'freeze', 'gradient_checkpointing']",
    ),
    "a kernel of the Hub": (
        config_with(decoder_conf={"config": {"model_type": "qwen2", "attn_implementation": "evil/kernel"}}),
        "decoder_conf: config has attn_implementation: evil/kernel, a repository with code, which is not run; use "
        "eager or sdpa",
    ),
    "no config": (
        lambda files, _: {**files, CONFIG: b"[1]\n"},
        f"{{0}}: {CONFIG}: expected a mapping of options to values, found list; correct it",
    ),
    "another program's config": (
        lambda files, _: {**files, CONFIG: b"a: 1\n"},
        f"{{0}}: {CONFIG}: no tasks in this config; give the config.yaml that stage 6 (training) writes",
    ),
    "no meta.yaml": (
        lambda files, _: {name: content for name, content in files.items() if name != "meta.yaml"},
        "{0}: not a packed model, it has no meta.yaml; pack the model with stage 9",
    ),
    "another program's meta.yaml": (
        lambda files, _: {**files, "meta.yaml": b"files: {}\nyaml_files: 3\n"},
        "{0}: meta.yaml names no train_config; pack a model of this package with stage 9",
    ),
    "a newer format": (
        changed("meta.yaml", lambda content, _: content.replace(b"format_version: 2", b"format_version: 99")),
        "{0}: meta.yaml: format version 99, this harmonifuse_espnet reads up to 2; install a newer harmonifuse_espnet",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_harmful_model_is_refused_and_leaves_nothing_outside_the_cache(
    attack: str, good: Path, cache: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    change, message = ATTACKS[attack]
    path = write(tmp_path / "m.zip", change(contents(good), outside))
    with pytest.raises(UserError) as error:
        Speech2Text.from_pretrained(path)
    assert str(error.value) == message.format(path, outside)
    assert [file.name for file in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    assert {file.name for file in tmp_path.iterdir()} <= {"outside", "m.zip", "cache", "elsewhere"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_working_directory_does_not_replace_files_of_the_pack(
    good: Path, expected: dict[str, Any], cache: Path
) -> None:
    Path("data/tokenizer").mkdir(parents=True)
    Path("data/tokenizer/bpe.model").write_text("another")
    assert results(Speech2Text.from_pretrained(good)) == expected


def test_an_experiment_loads_from_another_folder(
    good: Path, expected: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    """A config with paths relative to the recipe; ``good`` has such paths."""
    recipe = tmp_path / "recipe"
    zipfile.ZipFile(good).extractall(recipe)
    config = yaml.safe_load((recipe / CONFIG).read_text())
    (recipe / CONFIG).write_text(yaml.safe_dump({**config, "output_dir": "exp/exp"}))
    assert results(Speech2Text(recipe / CONFIG, recipe / WEIGHTS)) == expected
    shutil.move(recipe / "data", recipe / "moved")
    with pytest.raises(MissingFileError) as error:
        Speech2Text(recipe / CONFIG, recipe / WEIGHTS)
    assert str(error.value) == (
        f"{recipe / CONFIG}: tokenizer is data/tokenizer, which exists neither in {tmp_path}/elsewhere nor in "
        f"{recipe}; stage 4 creates it"
    )


def test_a_model_of_the_hub_is_loaded_from_its_snapshot(
    good: Path, expected: dict[str, Any], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's cache has links to its files."""
    zipfile.ZipFile(good).extractall(tmp_path / "blobs")
    for file in (tmp_path / "blobs").rglob("*"):
        if file.is_file():
            link = tmp_path / "snapshot" / file.relative_to(tmp_path / "blobs")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    calls: list[Any] = []

    def snapshot(*names: str, **options: Any) -> str:
        calls.append((names, options))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert results(Speech2Text.from_pretrained("me/slm")) == expected
    find_packed_model("me/slm@v1.0")
    assert calls == [
        (("me/slm",), {"revision": None, "library_name": "espnet"}),
        (("me/slm",), {"revision": "v1.0", "library_name": "espnet"}),
    ]
    assert not cache.exists()


def test_a_name_that_is_not_on_the_hub_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 Client Error.\n\nRepository Not Found")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(AccessError) as error:
        find_packed_model("me/absent")
    assert str(error.value) == (
        "me/absent: neither an archive or folder, nor a repository of the Hugging Face Hub that can be downloaded (401 "
        "Client Error); correct the name, or check the connection"
    )


@pytest.mark.parametrize("name", ["exp/model.zip", "model.tar.gz", "/absent/model", "a/b/c", "gpt2"])
def test_what_is_neither_a_file_nor_a_name_is_named(name: str, cache: Path) -> None:
    with pytest.raises(MissingFileError) as error:
        find_packed_model(name)
    assert str(error.value) == (
        f"{name}: no such archive; stage 9 (pack) creates it; a name on the Hugging Face Hub is user/name"
    )
