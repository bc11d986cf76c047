"""The TensorBoard folder of an experiment: curves that ESPnet wrote, and figures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from harmonifuse_espnet.common.files import writing
from harmonifuse_espnet.evaluation.plots.curves import SPLITS, Curves

FIGURES = "figures"  # beside train and valid, which ESPnet writes
OLD_FIGURES = "pictures"  # name before 0.2.0


def read_curves(tensorboard_dir: Path) -> Curves:
    """Read ESPnet's statistics at the end of every epoch: ``train`` and ``valid`` -> statistic -> curve.

    The training log also has means over ``log_interval`` steps; only the steps at which ``valid`` has a value (the ends
    of epochs) are kept. Of a step that resumed training wrote twice, the last value is kept. NaN is left out.
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
    curves["train"] = {
        tag: {step: value for step, value in curve.items() if step in ends} for tag, curve in curves["train"].items()
    }
    return curves


def replace_figures(tensorboard_dir: Path, figures: Iterable[tuple[str, Path]]) -> None:
    """Write figures, each a (caption, PNG file), to the folder ``figures``; earlier figures are removed.

    Raises:
        AccessError: if the folder cannot be written.
    """
    from matplotlib.image import imread
    from torch.utils.tensorboard import SummaryWriter

    folder = tensorboard_dir / FIGURES
    with writing(folder):
        for old in (folder, tensorboard_dir / OLD_FIGURES):
            if old.exists():
                shutil.rmtree(old)
        with SummaryWriter(str(folder)) as writer:
            for caption, path in figures:
                writer.add_image(caption, imread(path), dataformats="HWC")
