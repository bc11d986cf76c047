"""Loading of a trained model from its config and its weights, without running code of their author."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.inference.config_paths import Config, read_train_config, resolve_in_experiment
from harmonifuse_espnet.model.checkpoint import load_weights
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel


def load_config(train_config: str | Path | Mapping[str, Any]) -> Config:
    """Return the config of an experiment, with paths that exist from the working directory.

    Args:
        train_config: ``config.yaml`` of the experiment, or its content, whose paths are kept.

    Raises:
        MissingFileError: if the file, or a file that it names, does not exist.
        InputError: if it is not the config of a training.
    """
    if isinstance(train_config, Mapping):
        return dict(train_config)
    config = read_train_config(Path(train_config))
    resolve_in_experiment(config, Path(train_config))
    return config


def load_model(config: Config, model_file: Path, device: str) -> HarmoniFuseModel:
    """Build the model of a config and load its weights; return it in eval mode.

    ESPnet's ``build_model_from_file`` is not used: it runs any code that the checkpoint contains.

    Raises:
        MissingFileError: if the weights, or a file that the config names, do not exist.
        InputError: if the weights are damaged, would run code, or do not fit the config.
    """
    from espnet2.layers.create_adapter import create_adapter

    from harmonifuse_espnet.train.task import HarmoniFuseTask

    weights = load_weights(model_file)
    args = argparse.Namespace(**config)
    model = HarmoniFuseTask.build_model(args)
    assert isinstance(model, HarmoniFuseModel)
    if getattr(args, "use_adapter", False):
        create_adapter(model, args.adapter, args.adapter_conf)
    try:
        model.load_state_dict(weights)
    except InputError as error:
        raise InputError(f"{model_file}: {error}") from error
    return model.to(device).eval()
