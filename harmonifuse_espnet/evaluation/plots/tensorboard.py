"""An experiment's TensorBoard folder: the curves that ESPnet wrote there, and pictures beside them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from harmonifuse_espnet.common.files import writing
from harmonifuse_espnet.evaluation.plots.curves import SPLITS, Curves

PICTURES = "pictures"  # ESPnet's own are train and valid


def read_curves(tensorboard_dir: Path) -> Curves:
    """ESPnet's statistics at the end of every epoch: ``train`` and ``valid`` -> statistic -> curve.

    ESPnet's training log also has means over ``log_interval`` steps; only the steps at which ``valid`` has a value, the
    ends of epochs, are kept. Where a step was written twice (a resumed run) the last value counts; NaN is left out.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = {}
    for split, _ in SPLITS:
        events = EventAccumulator(str(tensorboard_dir / split), size_guidance={"scalars": 0})
        events.Reload()
        curves[split] = {
            tag: {event.step: event.value for event in events.Scalars(tag) if math.isfinite(event.value)}
            for tag in sorted(events.Tags()["scalars"])
        }
    ends = {step for curve in curves["valid"].values() for step in curve}
    curves["train"] = {tag: {n: v for n, v in curve.items() if n in ends} for tag, curve in curves["train"].items()}
    return curves


def replace_figures(tensorboard_dir: Path, shown: Iterable[tuple[str, Path]]) -> None:
    """Write PNG files, each a (caption, file), to the folder's ``pictures``, in the place of what is there.

    Raises:
        OSError: if the folder cannot be written.
    """
    from matplotlib.image import imread
    from torch.utils.tensorboard import SummaryWriter

    folder = tensorboard_dir / PICTURES
    with writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        with SummaryWriter(str(folder)) as writer:
            for caption, path in shown:
                writer.add_image(caption, imread(path), dataformats="HWC")
