"""Status of a run: trained, decoded, scored, and with which configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.ablation.spec import MODEL, Run, decode_tag
from harmonifuse_espnet.common.config import find_changes, read_config
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.experiment import read_run, update_run


def training_record(run: Run, train_args: str) -> dict[str, Any]:
    """Return the entries of ``run.json`` that identify a training configuration."""
    return {"config": _as_json(read_config(run.variant.config)), "train_args": train_args}


def record_decoding(run: Run, decode: Path) -> None:
    """Record the decoding configuration of all test sets of a run."""
    config = _as_json(read_config(decode))
    decoded = {f"{decode_tag(decode)}/{name}": config for name in run.variant.test_sets}
    update_run(run.exp_dir, decode_configs={**read_run(run.exp_dir).get("decode_configs", {}), **decoded})


def check_unchanged(run: Run, train_args: str) -> None:
    """Check that a run was not started with a different training configuration.

    Raises:
        InputError: if it was; the message names the first option that differs.
    """
    known, current = read_run(run.exp_dir), training_record(run, train_args)
    if "config" not in known:
        if run.experiment.checkpoint.is_file():
            raise InputError(f"{run.exp_dir} was not trained by an ablation; remove it, or choose another --expdir")
        return
    change = next(find_changes({name: known.get(name) for name in current}, current), None)
    if change:
        raise InputError(
            f"{run.exp_dir} was trained with another configuration: {change.removeprefix('config.')} "
            f"({run.variant.config}); remove that folder to train again, restore the configuration, or choose another "
            "--expdir"
        )


def is_finished(run: Run, decode: Sequence[Path]) -> bool:
    """Whether a run is trained, and decoded and scored with every decoding configuration."""
    return is_trained(run) and all(is_decoded(run, config) for config in decode)


def is_trained(run: Run) -> bool:
    """Whether training has reached ``max_epoch`` and written the model to decode with."""
    experiment = run.experiment
    if not all(path.is_file() for path in (experiment.checkpoint, experiment.config, run.exp_dir / MODEL)):
        return False
    return len(experiment.epochs()) >= experiment.read_config()["max_epoch"]


def is_decoded(run: Run, decode: Path) -> bool:
    """Whether every test set is decoded and scored with a configuration."""
    return all(is_scored(run, decode, name) for name in run.variant.test_sets)


def is_scored(run: Run, decode: Path, test_set: str) -> bool:
    """Whether the scores of a test set are newer than the model and belong to the current decoding configuration."""
    used = read_run(run.exp_dir).get("decode_configs", {}).get(f"{decode_tag(decode)}/{test_set}")
    model, scores = run.exp_dir / MODEL, run.decode_dir(decode, test_set).scores
    return (
        used == _as_json(read_config(decode))
        and model.is_file()
        and scores.is_file()
        and scores.stat().st_mtime >= model.stat().st_mtime
    )


def _as_json(config: Mapping[str, Any]) -> Any:
    """Return a configuration as it is read back from JSON: keys are strings, tuples are lists."""
    return json.loads(json.dumps(config))
