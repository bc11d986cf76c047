"""Checks of ``--ngpu``: is there a GPU? The first one needs no PyTorch, whose import takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError

DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, Windows Subsystem, AMD
REMEDY = "use --ngpu 0 to run on the CPU"


def check_gpu_driver(ngpu: int) -> None:
    """Check that this machine can have a GPU, if ``ngpu`` is not 0.

    Raises:
        InputError: if there is no driver, or ``CUDA_VISIBLE_DEVICES`` hides all GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if ngpu > 0 and not any(Path(driver).exists() for driver in DRIVERS):
        raise InputError(f"--ngpu {ngpu}: this machine has no GPU (none of {', '.join(DRIVERS)} exists); {REMEDY}")
    if ngpu > 0 and visible is not None and visible.strip() in ("", "-1"):
        raise InputError(
            f"--ngpu {ngpu}: CUDA_VISIBLE_DEVICES is '{visible}', which hides all GPUs; unset it, or {REMEDY}"
        )


def check_gpu_count(ngpu: int) -> None:
    """Check that PyTorch sees ``ngpu`` GPUs; imports PyTorch if it is not 0.

    Raises:
        InputError: if there are fewer; the message has both numbers.
    """
    if ngpu == 0:
        return
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < ngpu:
        reason = "" if torch.version.cuda or torch.version.hip else " (it is built for the CPU only)"
        less = f"use --ngpu {found}, or " if found else ""
        raise InputError(f"--ngpu {ngpu}: PyTorch finds {found} GPUs on this machine{reason}; {less}{REMEDY}")
