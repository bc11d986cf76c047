"""The folder of an experiment: its paths, and what its stages record there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def pretrained_by(exp_dir: Path) -> list[Path]:
    """The experiments from whose weights one starts: those of ``init_param`` in its ``config.yaml`` that exist."""
    config = exp_dir / "config.yaml"
    if not config.is_file():
        return []
    weights = yaml.safe_load(config.read_text(encoding="utf-8")).get("init_param") or []
    folders = {Path(one.partition(":")[0]).parent: None for one in weights}
    return [folder for folder in folders if (folder / "checkpoint.pth").is_file()]


def training_time(checkpoint: Path) -> tuple[float, int]:
    """Seconds and steps of all epochs; breaks do not count."""
    epochs = read_epochs(checkpoint)
    seconds = sum(phase["time"].total_seconds() for epoch in epochs for phase in epoch.values())
    return seconds, max(epoch["train"]["total_count"] for epoch in epochs)


def read_epochs(checkpoint: Path) -> list[dict[str, dict[str, Any]]]:
    """What ESPnet's reporter keeps of each epoch: phase (``train``, ``valid``) -> ``time``, ``total_count``, means."""
    import torch

    stats = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)["reporter"]["stats"]
    return [stats[number] for number in sorted(stats)]
