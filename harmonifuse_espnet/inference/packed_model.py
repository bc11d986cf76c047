"""Packed models: found by an archive, a folder, a URL or a name on the Hugging Face Hub, and checked.

A packed model can come from anyone. Its archive is unpacked safely (``archive.py``), its YAML files hold plain values,
``meta.yaml`` names files of the model only, and paths in its config are relative to its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.compatibility import check_format_version
from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError, UserError
from harmonifuse_espnet.inference.archive import unsafe_name
from harmonifuse_espnet.inference.config_paths import Config, read_mapping, read_train_config, resolve_in_pack
from harmonifuse_espnet.inference.model_cache import download_once, unpack_once

META = "meta.yaml"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
ARCHIVE_NAME = re.compile(r".*\.(zip|tar|tgz|tbz2|txz|tar\.\w+)")


@dataclass(frozen=True)
class PackedModel:
    """An unpacked model.

    Attributes:
        name: What the user called it, for error messages.
        folder: The folder with its files.
        train_config: Its config; the paths in it are relative to ``folder``.
        model_file: Its weights.
    """

    name: str
    folder: Path
    train_config: Path
    model_file: Path

    def read_config(self) -> Config:
        """Return the config with absolute paths.

        Raises:
            InputError: if it is not a YAML mapping, or a path in it is not a file of the model.
        """
        with self.named_errors():
            config = read_train_config(self.train_config)
            resolve_in_pack(config, self.train_config, self.folder)
        return config

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Name the model, instead of its folder in the cache, in the message of an error."""
        try:
            yield
        except UserError as error:
            raise type(error)(str(error).replace(f"{self.folder}/", f"{self.name}: ")) from error


def find_packed_model(name: str | Path) -> PackedModel:
    """Find a packed model; archives are unpacked into the cache, names and URLs downloaded.

    Args:
        name: Path of an archive, or of a folder with an unpacked one; ``user/name`` or ``user/name@revision`` on the
            Hugging Face Hub; or the URL (http, https) of an archive.

    Raises:
        MissingFileError: if there is no such archive, folder or name.
        InputError: if it is no packed model, or cannot be unpacked safely.
        AccessError: if it cannot be downloaded, or the cache cannot be written.
    """
    path, text = Path(name), str(name)

    def check(folder: Path) -> PackedModel:
        return read_packed_model(folder, text)

    if path.is_dir():
        return check(path)
    if path.is_file():
        return check(unpack_once(path, check))
    if re.match("https?://", text):
        return check(download_once(text, check))
    if HUB_NAME.fullmatch(text) and not ARCHIVE_NAME.fullmatch(text):
        return check(_download_snapshot(text))
    raise MissingFileError(
        f"{name}: no such archive; stage 9 (pack) creates it; a name on the Hugging Face Hub is user/name"
    )


def read_packed_model(folder: Path, name: str) -> PackedModel:
    """Read ``meta.yaml`` of an unpacked model and check that all files in it are files of the model.

    Args:
        folder: The folder with its files.
        name: What the user called the model, for error messages.

    Raises:
        InputError: if ``meta.yaml`` is missing, or names a file that the model does not have.
    """
    if not (folder / META).is_file():
        raise InputError(f"{name}: not a packed model, it has no {META}; pack the model with stage 9")
    folder = folder.absolute()
    with PackedModel(name, folder, folder, folder).named_errors():
        meta = read_mapping(folder / META)
    files: dict[str, Path] = {}
    for section in ("yaml_files", "files"):
        entries = meta.get(section)
        for key, value in entries.items() if isinstance(entries, dict) else ():
            files[key] = _file_in(folder, f"{name}: {META}", f"{section}.{key}", value)
    for key in ("train_config", "model_file"):
        if key not in files:
            raise InputError(f"{name}: {META} names no {key}; pack a model of this package with stage 9")
    versions = meta.get("harmonifuse_espnet")
    version = versions.get("format_version", 1) if isinstance(versions, dict) else 1
    check_format_version(version if isinstance(version, int) else 1, f"{name}: {META}")
    return PackedModel(name, folder, files["train_config"], files["model_file"])


def _file_in(folder: Path, where: str, key: str, value: Any) -> Path:
    problem = unsafe_name(value) if isinstance(value, str) else "is not a name"
    if problem or not (folder / value).is_file():
        raise InputError(
            f"{where}: {key} is {value!r}, which {problem or 'the packed model does not have'}; ask its author to pack "
            "it again (stage 9)"
        )
    return folder / value


def _download_snapshot(name: str) -> Path:
    """Download a repository of the Hugging Face Hub to the Hub's own cache; return its folder there."""
    from huggingface_hub import snapshot_download

    repo, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None, library_name="espnet"))
    except Exception as error:  # of the Hub, its HTTP client and its cache, which share no class
        reason = " ".join(str(error).split("\n\n")[0].split())[:300].removesuffix(".")
        raise AccessError(
            f"{name}: neither an archive or folder, nor a repository of the Hugging Face Hub that can be downloaded "
            f"({reason}); correct the name, or check the connection"
        ) from error
