"""Files of torch.save: no code of their author is run, and damaged ones are named with their size."""

from __future__ import annotations

import datetime
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.torch_files import read_torch_file

REMEDY = "copy or download it again, or run stage 6 (training) again"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.traces}",)


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_tensors_are_read_from_both_formats_of_pytorch(save: Any, tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    save({"a": weight, "b": weight.bfloat16()}, tmp_path / "a.pth")
    read = read_torch_file(tmp_path / "a.pth")
    assert list(read) == ["a", "b"] and torch.equal(read["a"], weight) and read["b"].dtype == torch.bfloat16


@pytest.mark.parametrize("save", [torch.save, legacy, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(save: Any, tmp_path: Path) -> None:
    save({"a": torch.zeros(2), "zz": Payload(tmp_path / "RAN")}, tmp_path / "a.pth")
    with pytest.raises(InputError) as error:
        read_torch_file(tmp_path / "a.pth")
    assert not (tmp_path / "RAN").exists()
    if save in (torch.save, legacy):
        assert str(error.value) == (
            f"{tmp_path}/a.pth: this pickle file needs {os.name}.system, which would run code of the file's author; "
            "ask for a model whose weights are a .safetensors file"
        )


def test_a_class_is_read_only_if_it_is_allowed(tmp_path: Path) -> None:
    torch.save({"time": datetime.timedelta(seconds=3)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: this pickle file needs datetime\.timedelta, which would run code"):
        read_torch_file(tmp_path / "a.pth")
    assert read_torch_file(tmp_path / "a.pth", [datetime.timedelta])["time"].total_seconds() == 3
    with pytest.raises(InputError):  # it stays refused elsewhere
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize("save", [torch.save, legacy])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named_with_its_size(save: Any, fraction: float, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    save({f"layer{number}": torch.randn(30, 10) for number in range(5)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError) as error:
        read_torch_file(path)
    message = str(error.value)
    assert message.startswith(f"{path}: damaged or incomplete, {int(len(data) * fraction):,} bytes (")
    assert message.endswith(f"); {REMEDY}") and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    "content",
    [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", b"<html>", bytes(1000), b"PK\x03\x04"],
)
def test_another_file_is_named_with_its_size(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"a\.pth: damaged or incomplete, {len(content):,} bytes \(.+\); copy or down"
    ):
        read_torch_file(tmp_path / "a.pth")


def test_a_file_that_cannot_be_opened_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "absent.pth")
