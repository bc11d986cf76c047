"""The TensorBoard folder of an experiment: curves are read, figures are added."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_events

from harmonifuse_espnet.evaluation.plots import read_curves, replace_figures
from harmonifuse_espnet.evaluation.plots.png import write_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The logs that ESPnet writes in two epochs of 100 steps."""
    loss = [(50, 9.0), (100, 5.0), (100, 4.0), (150, 3.0), (200, 2.0)]
    write_events(tmp_path / "train", {"loss_asr": loss, "acc_asr": [(100, 0.5), (200, float("nan"))]})
    write_events(tmp_path / "valid", {"loss_asr": [(100, 4.5), (200, 2.5)], "acc_asr": [(200, 0.75)]})
    return tmp_path


def test_curves_have_the_last_finite_value_at_the_end_of_each_epoch(folder: Path) -> None:
    assert read_curves(folder) == {
        "train": {"loss_asr": {100: 4.0, 200: 2.0}, "acc_asr": {100: 0.5}},
        "valid": {"loss_asr": {100: 4.5, 200: 2.5}, "acc_asr": {200: 0.75}},
    }


def test_figures_replace_earlier_ones_and_the_curves_are_kept(folder: Path) -> None:
    before = read_curves(folder)
    events = {path: path.read_bytes() for path in folder.glob("*/events*")}
    path = folder.parent / "a.png"
    (folder / "pictures").mkdir()  # the name before 0.2.0
    (folder / "pictures" / "events.out.tfevents").touch()
    for size, caption in ((1.0, "an old one"), (2.0, "gate over time of decode_a/test-1")):
        write_png(Figure(figsize=(size, 1.0)), path)
        replace_figures(folder, [(caption, path)])
    assert len(list((folder / "figures").iterdir())) == 1 and not (folder / "pictures").exists()
    found = EventAccumulator(str(folder / "figures")).Reload()
    assert found.Tags()["images"] == ["gate over time of decode_a/test-1"]
    (image,) = found.Images("gate over time of decode_a/test-1")
    np.testing.assert_array_equal(imread(BytesIO(image.encoded_image_string)), imread(path))
    assert read_curves(folder) == before and events == {path: path.read_bytes() for path in events}
