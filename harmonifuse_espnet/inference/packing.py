"""Packed models: one archive in ESPnet's format with all files that a trained model needs.

``packed_model.py`` and ``espnet_model_zoo`` read it. The weights are a ``.safetensors`` file, which cannot run code.
ESPnet's own ``pack`` is not used: it writes the current time into the archive, and does not list folders, so that the
path of a tokenizer's folder would not be replaced.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

import yaml

from harmonifuse_espnet import __version__
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import atomic_path, temporary_path
from harmonifuse_espnet.common.torch_files import SAFETENSORS
from harmonifuse_espnet.inference.archive import unsafe_name
from harmonifuse_espnet.inference.config_paths import Config, find_path, paths_in, read_train_config

# Options of training, which inference does not need, that can have absolute paths.
TRAINING_PATHS = re.compile(
    "output_dir|config|init_param|pretrain_path|deepspeed_config|(train|valid)_(data_path_and_name_and_type|shape_file)"
)
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file; a fixed time makes archives reproducible


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose weights are written as a ``.safetensors`` file."""

    path: Path


Content = Path | bytes | Checkpoint
Contents = dict[str, Content]  # name in the archive -> file, folder, content or checkpoint


def collect_contents(train_config: Path, model_file: Path, readme: Path | None = None) -> Contents:
    """Return the contents of the archive; the paths in its config are names in the archive.

    Raises:
        MissingFileError: if a file is missing; the message names it and the stage that creates it.
        InputError: if the config is not YAML or would keep an absolute path, or an image of ``readme`` is outside the
            folder of ``readme``.
    """
    for path, stage in ((train_config, 6), (model_file, 6), (readme, 8)):
        if path is not None and not path.is_file():
            raise MissingFileError(f"{path}: no such file; stage {stage} creates it")
    config = read_train_config(train_config)
    folder = f"exp/{train_config.resolve().parent.name}"
    names = {
        "train_config": f"{folder}/config.yaml",
        "model_file": f"{folder}/{model_file.with_suffix(SAFETENSORS).name}",
    }
    files = _replace_paths(config, train_config)
    config = {key: _without_absolute_paths(key, value, train_config) for key, value in config.items()}
    meta = _meta(names, config.get("format_version", 1))
    contents: Contents = {"meta.yaml": _to_yaml(meta), names["train_config"]: _to_yaml(config)}
    contents |= {names["model_file"]: Checkpoint(model_file)} | files
    return contents | (_readme_contents(readme) if readme else {})


def write_archive(out: Path, contents: Mapping[str, Content]) -> None:
    """Write a zip file atomically; the same contents give the same bytes.

    Raises:
        InputError: if the name does not end in ``.zip``, or a checkpoint cannot be read.
        AccessError: if it cannot be written.
    """
    from harmonifuse_espnet.model.checkpoint import load_weights, save_weights  # imports PyTorch

    if out.suffix != ".zip":
        raise InputError(f"{out}: the name of the archive must end in .zip")
    weights = temporary_path(out.with_name(f"{out.name}{SAFETENSORS}"))
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in contents.items():
            if isinstance(content, Checkpoint):
                try:
                    save_weights(weights, load_weights(content.path))
                    _add(archive, name, weights)
                finally:
                    weights.unlink(missing_ok=True)
            else:
                _add(archive, name, content)


def _replace_paths(config: Config, train_config: Path) -> Contents:
    """Replace the paths in ``config`` by names in the archive; return name -> file or folder."""
    contents: Contents = {}
    for field, owner, value in paths_in(config, train_config):
        path = find_path(config, train_config, field, value)
        if path is not None:
            name = f"data/{field.name}"
            owner[field.keys[-1]] = name if path.is_dir() else f"{name}/{path.name}"
            contents[owner[field.keys[-1]]] = path
    return contents


def _without_absolute_paths(key: str, value: Any, train_config: Path) -> Any:
    """Return an option's value without absolute paths: in the options of training, they become file names.

    Raises:
        InputError: if another option has an absolute path.
    """
    if isinstance(value, dict) and key != "tasks":  # a prompt may begin with a slash
        return {inner: _without_absolute_paths(f"{key}.{inner}", one, train_config) for inner, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_absolute_paths(key, one, train_config) for one in value]
    if not isinstance(value, str) or not PurePosixPath(value).is_absolute():
        return value
    if TRAINING_PATHS.fullmatch(key):
        path = Path(value)
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
    raise InputError(
        f"{train_config}: {key} is the absolute path {value}, but a packed model has relative paths only; remove it"
    )


def _readme_contents(readme: Path) -> Contents:
    """Return RESULTS.md and its images."""
    text = readme.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (readme.parent / link).is_file()]
    if missing:
        raise MissingFileError(f"{readme}: the image {missing[0]} does not exist; stage 8 creates it")
    outside = [link for link in links if unsafe_name(link)]
    if outside:
        raise InputError(f"{readme}: the image {outside[0]} is outside the folder of this file; move it there")
    return {"RESULTS.md": text.encode()} | {link: readme.parent / link for link in links}


def _meta(names: Mapping[str, str], format_version: int) -> dict[str, Any]:
    """Return ``meta.yaml``: ESPnet's entries except the time, and the versions of this package."""
    return {
        "yaml_files": {"train_config": names["train_config"]},
        "files": {"model_file": names["model_file"]},
        "python": python_version(),
        "torch": version("torch"),
        "espnet": version("espnet"),
        "harmonifuse_espnet": {"format_version": format_version, "version": __version__},
    }


def _to_yaml(content: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).encode()


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    """Add one entry; hidden files in a folder, such as temporary files of killed calls, are left out."""
    if isinstance(content, Path) and content.is_dir():
        archive.writestr(_member(f"{name}/", 0o40755), b"")
        for path in sorted(content.iterdir()):
            if not path.name.startswith("."):
                _add(archive, f"{name}/{path.name}", path)
    elif isinstance(content, Path):
        member = _member(name, 0o100644)
        member.file_size = content.stat().st_size
        with open(content, "rb") as source, archive.open(member, "w") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    else:
        archive.writestr(_member(name, 0o100644), content)


def _member(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, ZIP_EPOCH)
    member.external_attr = mode << 16
    return member
