"""Weights: written as safetensors and read back, mismatches counted, other content refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.model.checkpoint import describe_mismatch, load_weights, save_weights


def test_weights_of_all_kinds_are_read_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.randn(4, 3)
    weights = {
        "embed.weight": tied,
        "head.weight": tied,
        "part": tied[1:3],
        "transposed": torch.randn(2, 5).T,
        "half": torch.randn(3).bfloat16(),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
    }
    save_weights(tmp_path / "a.safetensors", weights)
    read = load_weights(tmp_path / "a.safetensors")
    assert read.keys() == weights.keys()
    for name, weight in weights.items():
        assert read[name].dtype == weight.dtype and torch.equal(read[name], weight), name


def test_weights_of_a_checkpoint_give_the_same_bytes_each_time(tmp_path: Path) -> None:
    weights = {f"layer{number}.weight": torch.full((3,), float(number)) for number in range(20)}
    torch.save(weights, tmp_path / "a.pth")
    for name in ("one", "two"):
        save_weights(tmp_path / name, load_weights(tmp_path / "a.pth"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as error:
        load_weights(tmp_path / "a.pth")
    assert str(error.value) == f"{tmp_path}/a.pth: no such file; stage 6 (training) creates it"


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_safetensors_file_is_named_with_its_size(fraction: float, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, {"a": torch.zeros(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError) as error:
        load_weights(path)
    message = str(error.value)
    assert message.startswith(f"{path}: damaged or incomplete, {int(len(data) * fraction):,} bytes (")
    assert message.endswith("); copy or download it again, or run stage 6 (training) again")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"model": {"a": torch.zeros(1)}, "epoch": 3}, "other entries, such as 'model'"),
        ([torch.zeros(1)], "list"),
        ({1: torch.zeros(1)}, "other entries, such as 1"),
    ],
)
def test_a_file_without_weights_by_name_is_refused(content: Any, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError) as error:
        load_weights(tmp_path / "a.pth")
    assert str(error.value) == (
        f"{tmp_path}/a.pth: expected weights by name, found {found}; use the file of an epoch or an average, such as "
        "valid.loss.ave.pth"
    )


def test_a_mismatch_is_counted_with_the_first_weight_of_each_kind() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1, 2), "d": torch.zeros(5)}
    loaded = {"c": torch.zeros(2, 1), "d": torch.zeros(4), "e": torch.zeros(())}
    assert describe_mismatch(own, loaded) == (
        "missing weights: 2 (the first: a (2,)), unknown weights: 1 (the first: e ()), other shapes: 2 (the first: c, "
        "(2, 1) in the checkpoint, (1, 2) in the config)"
    )
    assert describe_mismatch(own, own) == ""
