"""Limits that differ between the CPU and accelerators."""

from __future__ import annotations

from typing import NamedTuple

import torch


class DeviceLimit(NamedTuple):
    """Maximum amount of work per call: small on the CPU to fit its caches, large on an accelerator to occupy it.

    Example:
        >>> limit = DeviceLimit(cpu=2, accelerator=64)
        >>> [limit.on(torch.device(kind)) for kind in ("cpu", "cuda", "mps")]
        [2, 64, 64]
    """

    cpu: int
    accelerator: int

    def on(self, device: torch.device) -> int:
        """Return the limit for a device; every device other than the CPU is an accelerator."""
        return self.cpu if device.type == "cpu" else self.accelerator
