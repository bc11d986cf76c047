"""Paths in the config of a trained model: where they lead, for an experiment and for a packed model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.common.yaml_file import read_yaml
from harmonifuse_espnet.inference.archive import unsafe_name

Config = dict[str, Any]


class PathField(NamedTuple):
    """A field of the config that has a path.

    Attributes:
        keys: Keys that lead to it.
        stage: Stage that creates the file or folder.
        may_be_on_hub: Whether it may be a name on the Hugging Face Hub instead.
    """

    keys: tuple[str, ...]
    stage: int
    may_be_on_hub: bool

    @property
    def name(self) -> str:
        """The keys, joined by dots."""
        return ".".join(self.keys)


CONFIG_PATHS = (
    PathField(("tokenizer",), 4, True),
    PathField(("ctc_tokenizer",), 4, True),
    PathField(("feats_stats",), 5, False),
    PathField(("frontend_conf", "model"), 6, True),
    PathField(("decoder_conf", "model"), 6, True),
)
RECIPE_FOLDERS = ("data", "dump", "exp")  # of a recipe and of a packed model


def read_train_config(path: Path) -> Config:
    """Read the ``config.yaml`` of a trained model.

    Raises:
        MissingFileError: if it does not exist.
        InputError: if it is not a YAML mapping of plain values, or not written by a training.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; stage 6 (training) creates it")
    config = read_mapping(path)
    missing = [key for key in ("tasks", "tokenizer") if key not in config]
    if missing:
        raise InputError(f"{path}: no {missing[0]} in this config; give the config.yaml that stage 6 (training) writes")
    return config


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; tags that create Python objects are refused.

    Raises:
        InputError: if it is not a YAML mapping of plain values.
    """
    content = read_yaml(path, dumped=True)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of options to values, found {type(content).__name__}; correct it")
    others = [key for key in content if not isinstance(key, str)]
    if others:
        raise InputError(
            f"{path}: expected a mapping of options to values, found the key {quote(others[0])}; correct it"
        )
    return content


def paths_in(config: Config, where: Path) -> Iterator[tuple[PathField, Config, str]]:
    """Yield the fields in ``CONFIG_PATHS`` that have a value, the mapping that holds each, and the value.

    Raises:
        InputError: if a value is not a string; ``where`` names the config.
    """
    for field in CONFIG_PATHS:
        *parents, last = field.keys
        owner: Any = config
        for key in parents:
            owner = owner.get(key) if isinstance(owner, Mapping) else None
        value = owner.get(last) if isinstance(owner, Mapping) else None
        if value is None:
            continue
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {field.name} is {value!r}, but must be a path or a name; correct it")
        yield field, owner, value


def resolve_in_experiment(config: Config, where: Path) -> None:
    """Replace relative paths that do not exist in the working directory by those in the recipe's folder.

    Stage 6 is run in the recipe's folder. ``output_dir`` is relative to it, so with ``output_dir: exp/slm`` it is two
    folders above that of the config.

    Raises:
        MissingFileError: if a file exists in neither folder.
        InputError: if a value is not a string.
    """
    for field, owner, value in paths_in(config, where):
        owner[field.keys[-1]] = str(find_path(config, where, field, value) or value)


def find_path(config: Config, where: Path, field: PathField, value: str) -> Path | None:
    """Return the path of one field of an experiment's config; None for a name on the Hugging Face Hub.

    Raises:
        MissingFileError: if it exists neither in the working directory nor in the recipe's folder.
    """
    path, here, recipe = Path(value), Path.cwd(), _recipe_dir(config, where)
    for found in (path, recipe / path):
        if found.exists():
            return found
    if field.may_be_on_hub and may_be_hub_name(value):
        return None
    problem = "does not exist" if path.is_absolute() or here == recipe else f"exists neither in {here} nor in {recipe}"
    raise MissingFileError(f"{where}: {field.name} is {path}, which {problem}; stage {field.stage} creates it")


def resolve_in_pack(config: Config, where: Path, folder: Path) -> None:
    """Replace the paths in the config of a packed model, which are relative to its ``folder``, by absolute ones.

    Raises:
        InputError: if a path is absolute, leads out of the folder, or does not exist in it; ``where`` names the config.
    """
    for field, owner, value in paths_in(config, where):
        problem = unsafe_name(value)
        if problem:
            raise InputError(
                f"{where}: {field.name} is {value!r}, which {problem}, but a packed model has relative paths only; "
                "ask its author to pack it again (stage 9)"
            )
        if (folder / value).exists():
            owner[field.keys[-1]] = str((folder / value).absolute())
        elif not (field.may_be_on_hub and may_be_hub_name(value)):
            raise InputError(
                f"{where}: {field.name} is {value!r}, which the packed model does not have; ask its author to pack it "
                "again (stage 9)"
            )


def may_be_hub_name(value: str) -> bool:
    """Return whether a value can be a name on the Hugging Face Hub, such as ``gpt2`` or ``Qwen/Qwen2.5-1.5B``."""
    path = Path(value)
    if path.is_absolute() or value.startswith(".") or path.suffix == ".model":
        return False
    return len(path.parts) <= 2 and path.parts[0] not in RECIPE_FOLDERS


def _recipe_dir(config: Config, where: Path) -> Path:
    output_dir = PurePosixPath(str(config.get("output_dir") or "exp/slm"))
    depth = 2 if output_dir.is_absolute() else len(output_dir.parts)
    folders = where.absolute().parents
    return folders[min(depth, len(folders) - 1)]
