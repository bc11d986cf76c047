"""Weights of a checkpoint: reading without running code, writing, and comparison with a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.torch_files import SAFETENSORS, damaged_file, read_torch_file


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, a ``.safetensors`` file or a file of ``torch.save``, on the CPU.

    No code of the file's author is run. The names are those of the file; ``HarmoniFuseModel.load_state_dict`` renames
    those of earlier formats.

    Raises:
        MissingFileError: if the file does not exist.
        InputError: if the file is damaged, would run code, or does not hold tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; stage 6 (training) creates it")
    weights = _read_safetensors(path) if path.suffix == SAFETENSORS else read_torch_file(path)
    if not isinstance(weights, dict):
        found = type(weights).__name__
    else:
        others = [key for key, value in weights.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
        if not others:
            return weights
        found = f"other entries, such as {others[0]!r}"
    raise InputError(
        f"{path}: expected weights by name, found {found}; use the file of an epoch or an average, such as "
        "valid.loss.ave.pth"
    )


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights to a ``.safetensors`` file; tensors that share memory (tied weights) are written one by one.

    Raises:
        OSError: if the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, weight in weights.items():
        storage = weight.untyped_storage().data_ptr()
        tensors[name] = weight.clone() if storage in storages else weight.contiguous()
        storages.add(storage)
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # an error of the file system
        raise OSError(str(error)) from error


def describe_mismatch(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> str:
    """Return how many weights of a checkpoint do not fit a model, with the first of each kind; '' if all fit.

    Example:
        >>> import torch
        >>> describe_mismatch({"a": torch.zeros(2), "b": torch.zeros(3)}, {"b": torch.zeros(3), "c": torch.zeros(4)})
        'missing weights: 1 (the first: a (2,)), unknown weights: 1 (the first: c (4,))'
        >>> describe_mismatch({"a": torch.zeros(2)}, {"a": torch.ones(2)})
        ''
    """
    found, expected = ({name: tuple(weight.shape) for name, weight in state.items()} for state in (loaded, own))
    both = found.keys() & expected.keys()
    kinds = {
        "missing weights": [f"{name} {expected[name]}" for name in sorted(expected.keys() - both)],
        "unknown weights": [f"{name} {found[name]}" for name in sorted(found.keys() - both)],
        "other shapes": [
            f"{name}, {found[name]} in the checkpoint, {expected[name]} in the config"
            for name in sorted(both)
            if found[name] != expected[name]
        ],
    }
    return ", ".join(f"{kind}: {len(names)} (the first: {names[0]})" for kind, names in kinds.items() if names)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged_file(path, error) from error
