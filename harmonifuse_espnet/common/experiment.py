"""Experiment folders: their files, and the records of training and decoding in ``run.json``.

An experiment folder holds::

    config.yaml, checkpoint.pth, train.log, tensorboard/, images/, model.zip
    run.json                          training: configuration, memory, compute (ablations only)
    decode_<tag>/<test_set>/          text, ctc_text, label_probs.jsonl, gate.json, score.json, utterances.jsonl
    decode_<tag>/<test_set>/run.json  decoding: options, parameter counts, layer weights, speed
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.common.text import quote
from harmonifuse_espnet.common.torch_files import read_torch_file
from harmonifuse_espnet.common.yaml_file import read_yaml

RUN = "run.json"
SCALAR = np.float64().__reduce__()[0]  # creates a NumPy number from its bytes
REPORTED = (  # what ESPnet's statistics need: times and NumPy numbers, also those written by NumPy 1
    datetime.timedelta,
    SCALAR,
    (SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
)
_REMEDY = "rerun the stage that writes it"
Record = dict[str, Any]


@dataclass(frozen=True)
class DecodeDir:
    """The folder of one decoded test set, ``decode_<tag>/<test_set>`` in an experiment folder.

    Example:
        >>> folder = DecodeDir(Path("exp/slm/decode_beam10/test_an4"))
        >>> folder.tag, folder.test_set, folder.scores.name
        ('beam10', 'test_an4', 'score.json')
    """

    dir: Path

    @property
    def tag(self) -> str:
        """Decoding configuration and model file, such as ``beam10_valid.acc.ave``."""
        return self.dir.parent.name.removeprefix("decode_")

    @property
    def test_set(self) -> str:
        """Name of the test set."""
        return self.dir.name

    @property
    def name(self) -> str:
        """``decode_<tag>/<test_set>``."""
        return f"decode_{self.tag}/{self.test_set}"

    @property
    def text(self) -> Path:
        """Hypotheses of the language model: transcripts and labels."""
        return self.dir / "text"

    @property
    def ctc_text(self) -> Path:
        """Greedy CTC transcripts, if the model has a CTC head."""
        return self.dir / "ctc_text"

    @property
    def label_probs(self) -> Path:
        """Probability of every label, if there is a task with labels."""
        return self.dir / "label_probs.jsonl"

    @property
    def gates(self) -> Path:
        """Values of the component gate for one utterance per task, if the model has a gate."""
        return self.dir / "gate.json"

    @property
    def scores(self) -> Path:
        """Scores by task."""
        return self.dir / "score.json"

    @property
    def utterances(self) -> Path:
        """Score of each utterance."""
        return self.dir / "utterances.jsonl"


@dataclass(frozen=True)
class Experiment:
    """An experiment folder.

    Example:
        >>> Experiment(Path("exp/slm")).decode_dir("beam10", "test_an4").dir.as_posix()
        'exp/slm/decode_beam10/test_an4'
    """

    dir: Path

    @property
    def config(self) -> Path:
        """Training configuration."""
        return self.dir / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """Model, optimizer and statistics after the last epoch."""
        return self.dir / "checkpoint.pth"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard logs."""
        return self.dir / "tensorboard"

    @property
    def images(self) -> Path:
        """Figures."""
        return self.dir / "images"

    def decode_dir(self, tag: str, test_set: str) -> DecodeDir:
        """Return the folder of a decoded test set, which need not exist."""
        return DecodeDir(self.dir / f"decode_{tag}" / test_set)

    def decoded(self) -> Iterator[DecodeDir]:
        """Yield the folders of all decoded test sets, sorted by name."""
        yield from (DecodeDir(folder) for folder in sorted(self.dir.glob("decode_*/*")) if folder.is_dir())

    def scored(self) -> Iterator[DecodeDir]:
        """Yield the folders of all scored test sets, sorted by name."""
        yield from (folder for folder in self.decoded() if folder.scores.is_file())

    def parameter_counts(self) -> Record:
        """Return the record of the first decoded test set that has ``parameters`` and ``trained_parameters``, or {}."""
        records = (read_run(folder.dir) for folder in self.decoded())
        return next((record for record in records if "parameters" in record), {})

    def read_config(self) -> dict[str, Any]:
        """Read the training configuration; return {} if ``config.yaml`` does not exist.

        Raises:
            InputError: if the file is damaged.
        """
        if not self.config.is_file():
            return {}
        config = read_yaml(self.config, _REMEDY, dumped=True) or {}
        if not isinstance(config, dict):
            raise InputError(f"{self.config}: expected a mapping of options, got {quote(config)}; {_REMEDY}")
        return config

    def pretraining(self) -> list[Experiment]:
        """Return the existing experiments in ``init_param``, from which this one was initialised."""
        folders = {Path(entry.partition(":")[0]).parent: None for entry in self.read_config().get("init_param") or []}
        return [one for one in map(Experiment, folders) if one.checkpoint.is_file()]

    def epochs(self) -> list[dict[str, dict[str, Any]]]:
        """Return ESPnet's statistics of each epoch: ``time``, ``total_count`` and means for ``train`` and ``valid``.

        Raises:
            InputError: if the checkpoint is damaged, has no statistics, or would run code when it is read.
        """
        content = read_torch_file(self.checkpoint, REPORTED, "run stage 6 (training) again")
        try:
            stats = content["reporter"]["stats"]
            return [stats[number] for number in sorted(stats)]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.checkpoint}: no statistics of the epochs (reporter, stats), so this is no checkpoint of stage "
                "6 (training); run stage 6 again"
            ) from error


def training_seconds(epochs: Sequence[Mapping[str, Mapping[str, Any]]]) -> float:
    """Return the training time of ``epochs``, with validation but without interruptions."""
    return sum(phase["time"].total_seconds() for epoch in epochs for phase in epoch.values())


def read_run(folder: Path) -> Record:
    """Read the record of a folder; return {} if it has no record.

    Folders written before 0.2.0 have several files instead of ``run.json``, which are converted.

    Raises:
        InputError: if the file is not a JSON mapping.
    """
    if (folder / RUN).is_file():
        return _read_mapping(folder / RUN)
    found = [(translate, folder / name) for name, translate in OLD_RECORDS.items() if (folder / name).is_file()]
    return {key: value for translate, path in found for key, value in translate(path).items()}


def update_run(folder: Path, **entries: Any) -> None:
    """Write entries into the record of a folder; the other entries are kept.

    Raises:
        AccessError: if the folder cannot be written.
    """
    write_files(folder, {RUN: format_run({**read_run(folder), **entries})})


def format_run(record: Mapping[str, Any]) -> str:
    """Return the content of ``run.json``."""
    return json.dumps(record, indent=1) + "\n"


def _read_mapping(path: Path) -> Record:
    return _mapping(path, read_json(path, _REMEDY))


def _mapping(path: Path, content: Any) -> Record:
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON mapping, got {quote(content)}; {_REMEDY}")
    return content


def _read_cost(path: Path) -> Record:
    cost = _read_mapping(path)
    return {"peak_memory_bytes" if key == "memory" else key: value for key, value in cost.items()}


def _read_made_with(path: Path) -> Record:
    configs = _read_mapping(path)
    return {**_mapping(path, configs.pop("train", {})), "decode_configs": configs}


def _read_prepared(path: Path) -> Record:
    return {"prepared_test_sets": None}  # not recorded before 0.2.0


OLD_RECORDS: dict[str, Callable[[Path], Record]] = {
    "cost.json": _read_cost,
    "made_with.json": _read_made_with,
    "prepared": _read_prepared,
    "selection.json": _read_mapping,
    "speed.json": _read_mapping,
}
