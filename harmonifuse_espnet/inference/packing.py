"""Packed models: one archive in ESPnet's format with all files that a trained model needs.

``espnet_model_zoo`` unpacks it and replaces the paths in the config by those of the unpacked files. ESPnet's own
``pack`` is not used: it writes the current time into the archive, and does not list folders, so that the path of a
tokenizer's folder would not be replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

import yaml

from harmonifuse_espnet import __version__
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.files import writing

# Paths in the config, the stage that creates each, and whether it may be a name on the Hugging Face Hub instead.
CONFIG_PATHS = (
    (("tokenizer",), 4, True),
    (("ctc_tokenizer",), 4, True),
    (("feats_stats",), 5, False),
    (("frontend_conf", "model"), 6, True),
    (("decoder_conf", "model"), 6, True),
)
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file; a fixed time makes archives reproducible

Contents = dict[str, "Path | bytes"]  # name in the archive -> file, folder or content


def collect_contents(train_config: Path, model_file: Path, readme: Path | None = None) -> Contents:
    """Return the contents of the archive; the paths in its config are names in the archive.

    Raises:
        MissingFileError: if a file is missing; the message names it and the stage that creates it.
        InputError: if the config is not YAML, or an image of ``readme`` is outside the folder of ``readme``.
    """
    for path, stage in ((train_config, 6), (model_file, 6), (readme, 8)):
        if path is not None and not path.is_file():
            raise MissingFileError(f"{path}: no such file; stage {stage} creates it")
    try:
        config = yaml.safe_load(train_config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{train_config}: not YAML: {error}") from error
    folder = f"exp/{train_config.resolve().parent.name}"
    names = {"train_config": f"{folder}/config.yaml", "model_file": f"{folder}/{model_file.name}"}
    files = _replace_paths(config)
    meta = _meta(names, config.get("format_version", 1))
    contents: Contents = {"meta.yaml": _to_yaml(meta), names["train_config"]: _to_yaml(config)}
    return contents | {names["model_file"]: model_file} | files | (_readme_contents(readme) if readme else {})


def write_archive(out: Path, contents: Mapping[str, Path | bytes]) -> None:
    """Write a zip file atomically; the same contents give the same bytes.

    Raises:
        InputError: if the name does not end in ``.zip``.
        AccessError: if it cannot be written.
    """
    if out.suffix != ".zip":
        raise InputError(f"{out}: the name of the archive must end in .zip")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(temporary, "w") as archive:
                for name, content in contents.items():
                    _add(archive, name, content)
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)


def _replace_paths(config: dict[str, Any]) -> Contents:
    """Replace the paths in ``config`` by names in the archive; return name -> file or folder."""
    contents: Contents = {}
    for keys, stage, may_be_on_hub in CONFIG_PATHS:
        *parents, last = keys
        owner = config
        for key in parents:
            owner = owner.get(key) or {}
        value = owner.get(last)
        if value is None:
            continue
        path = Path(value)
        if path.exists():
            name = f"data/{'.'.join(keys)}"
            owner[last] = name if path.is_dir() else f"{name}/{path.name}"
            contents[owner[last]] = path
        elif not may_be_on_hub or not _may_be_hub_name(value):
            raise MissingFileError(
                f"{path}: no such file or folder, which is {'.'.join(keys)} in the config; stage {stage} creates it"
            )
    return contents


def _may_be_hub_name(value: str) -> bool:
    path = Path(value)
    return not path.is_absolute() and not value.startswith(".") and path.suffix != ".model" and len(path.parts) <= 2


def _readme_contents(readme: Path) -> Contents:
    """Return RESULTS.md and its images."""
    text = readme.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (readme.parent / link).is_file()]
    if missing:
        raise MissingFileError(f"{readme}: the image {missing[0]} does not exist; stage 8 creates it")
    outside = [link for link in links if PurePosixPath(link).is_absolute() or ".." in PurePosixPath(link).parts]
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
    if isinstance(content, Path) and content.is_dir():
        archive.writestr(_member(f"{name}/", 0o40755), b"")
        for path in sorted(content.iterdir()):
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
