"""``--ngpu`` on a machine without GPUs, or with fewer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harmonifuse_espnet.common import gpu
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.gpu import check_gpu_count, check_gpu_driver


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVERS", ("/absent/nvidia", "/absent/amd"))
    check_gpu_driver(0)
    with pytest.raises(InputError) as error:
        check_gpu_driver(1)
    assert str(error.value) == (
        "--ngpu 1: this machine has no GPU (none of /absent/nvidia, /absent/amd exists); use --ngpu 0 to run on the CPU"
    )


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_hidden_gpu_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(gpu, "DRIVERS", (str(tmp_path),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    check_gpu_driver(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    check_gpu_driver(0)
    with pytest.raises(InputError) as error:
        check_gpu_driver(2)
    assert str(error.value) == (
        f"--ngpu 2: CUDA_VISIBLE_DEVICES is '{value}', which hides all GPUs; unset it, or use --ngpu 0 to run on "
        "the CPU"
    )


@pytest.mark.parametrize(
    ("found", "built", "message"),
    [
        (0, None, "finds 0 GPUs on this machine (it is built for the CPU only); use --ngpu 0 to run on the CPU"),
        (0, "12.8", "finds 0 GPUs on this machine; use --ngpu 0 to run on the CPU"),
        (1, "12.8", "finds 1 GPUs on this machine; use --ngpu 1, or use --ngpu 0 to run on the CPU"),
    ],
)
def test_pytorch_must_find_as_many_gpus(
    monkeypatch: pytest.MonkeyPatch, found: int, built: str | None, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    check_gpu_count(found)
    with pytest.raises(InputError) as error:
        check_gpu_count(2)
    assert str(error.value) == f"--ngpu 2: PyTorch {message}"
