"""Whether a call of training belongs to the training that is in its experiment folder already.

``config.yaml`` has the options of a training and, in ``made_from``, checksums of the tokenizers, tables and statistics
that it reads. A later call that differs in what determines the weights is refused before anything is written.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harmonifuse_espnet import __version__
from harmonifuse_espnet.common.compatibility import RENAMED_OPTIONS, rename_options
from harmonifuse_espnet.common.config import find_changes
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.experiment import Experiment, read_run, update_run
from harmonifuse_espnet.common.lock import lock_folder
from harmonifuse_espnet.data.alignment import CTM
from harmonifuse_espnet.data.provenance import check_sources, checksum
from harmonifuse_espnet.data.tokenizer import Tokenizer

LOG = "train.log"
FINISHED = "finished"  # key in run.json
_CODE = "harmonifuse_espnet"  # key in made_from
# Options that do not change what is trained: the machine, logs, and how long. Paths are compared by content.
_FREE = {
    *("config", "output_dir", "resume", "version", "format_version", "required", "print_config", "dry_run", "ngpu"),
    *("num_workers", "log_level", "log_interval", "num_att_plot", "max_epoch", "patience", "detect_anomaly"),
    *("use_matplotlib", "use_tensorboard", "create_graph_in_tensorboard", "local_rank", "distributed", "nproc"),
    *("tokenizer", "ctc_tokenizer", "feats_stats", "bpemodel", "token_list", "fresh"),
}
_FREE_PREFIXES = ("dist_", "multiprocessing_", "wandb", "use_wandb", "cudnn_", "sharded_")
_FREE_SUFFIXES = ("_data_path_and_name_and_type", "_shape_file")


@contextmanager
def experiment_folder(args: argparse.Namespace, rank: int) -> Iterator[bool]:
    """Prepare the experiment folder for a training, and record at the end that the training is complete.

    The first rank locks the folder, and refuses a training that does not belong to it.

    Args:
        args: Training options; gets ``made_from``. With ``fresh``, an earlier training is removed first.
        rank: Rank of this process.

    Yields:
        Whether there is anything to train.

    Raises:
        InputError: if the folder has another training, or its inputs are out of date.
        AccessError: if the folder cannot be written, or another process trains in it.
    """
    folder, fresh = Path(args.output_dir), args.fresh
    args.fresh = False  # not for config.yaml
    finished = args.resume and not fresh and is_finished(args)  # on all ranks, before the first one writes
    if rank:
        yield not finished
        return
    check_made_from(args)
    with lock_folder(folder):
        if fresh:
            remove_training(folder)
        elif args.resume:
            check_same_training(args)
        args.made_from = made_from(args)
        yield not finished
        if finished:
            print(f"{folder}: training is complete ({args.max_epoch} epochs or more); nothing to do")
        else:
            record_finished(args)


def made_from(args: argparse.Namespace) -> dict[str, Any]:
    """Return the checksums of the files that a training reads, and the version of this package."""
    sources: dict[str, str] = {}
    for name in ("tokenizer", "ctc_tokenizer", "feats_stats"):
        path = getattr(args, name)
        if path and Path(path).exists():
            sources[name] = checksum(path)
    for part in ("train", "valid"):
        for path, name, _ in getattr(args, f"{part}_data_path_and_name_and_type"):
            if name != "speech":
                sources[f"{part} {Path(path).name}"] = _describe_table(path)
            elif args.preprocessor_conf.get("recombine") and part == "train":
                sources[f"{part} {CTM}"] = checksum(Path(path).parent / CTM)
        for path in getattr(args, f"{part}_shape_file"):
            sources[f"{part} {Path(path).name}"] = _describe_table(path)
    return {_CODE: __version__, **sources}


def check_made_from(args: argparse.Namespace) -> None:
    """Check that the folders that training reads were made from the current data and tokenizer.

    Raises:
        InputError: if a source has changed; the message has the stage to run again.
    """
    for part in ("train", "valid"):
        data_files = [path for path, _, _ in getattr(args, f"{part}_data_path_and_name_and_type")]
        for folder in {Path(path).parent: None for path in data_files}:
            check_sources(folder, "run stage 2 (and the stages after it) again: ./run.sh --stage 2")
        for folder in {Path(path).parent: None for path in getattr(args, f"{part}_shape_file")}:
            check_sources(folder, "run stage 5 again: ./run.sh --stage 5")


def check_same_training(args: argparse.Namespace) -> None:
    """Check that the experiment folder has no training, or one with the same options and data.

    Raises:
        InputError: if it has another; the message has the first difference with both values.
    """
    experiment = Experiment(Path(args.output_dir))
    if not any(experiment.dir.glob("*.pth")):
        return
    config = experiment.read_config()
    current = {**vars(args), "made_from": made_from(args)}
    version = config.get("made_from", {}).get(_CODE, __version__)
    if version != __version__:
        logging.warning("%s was trained with version %s, this is version %s", experiment.dir, version, __version__)
    shared = {name for name in config if name in current and not _is_free(name)}
    before, now = ({name: _plain(name, options[name]) for name in shared} for options in (config, current))
    change = next(find_changes(before, now), None)
    if change:
        raise InputError(
            f"{experiment.dir} has a training with other options or data: {change}; undo the change, choose another "
            "folder (run.sh: --tag), or remove that training and start again with --fresh true"
        )


def is_finished(args: argparse.Namespace) -> bool:
    """Whether the training was completed for at least ``max_epoch`` epochs, and its weights are still there."""
    folder = Path(args.output_dir)
    record = read_run(folder).get(FINISHED, {}) if folder.is_dir() else {}
    return record.get("max_epoch", 0) >= args.max_epoch and record.get("sizes") == _weight_sizes(folder)


def record_finished(args: argparse.Namespace) -> None:
    """Record that the training is complete.

    Raises:
        AccessError: if the folder cannot be written.
    """
    folder = Path(args.output_dir)
    update_run(folder, **{FINISHED: {"max_epoch": args.max_epoch, "sizes": _weight_sizes(folder)}})


def remove_training(folder: Path) -> None:
    """Remove an earlier training with everything made from it, except for its log."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOG and not path.name.startswith("."):
            path.unlink()


def check_tokenizer(tokenizer: Tokenizer, recorded: Mapping[str, Any], option: str, model_file: str | Path) -> None:
    """Check that a model's tokenizer is the one that it was trained with.

    Args:
        tokenizer: Tokenizer that the model's configuration names.
        recorded: ``made_from`` of the configuration; {} if it is older than that.
        option: ``tokenizer`` or ``ctc_tokenizer``.
        model_file: Checkpoint of the model, for the error message.

    Raises:
        InputError: if it is not; the message has both checksums.
    """
    expected = recorded.get(option)
    found = checksum(tokenizer.name) if expected and Path(tokenizer.name).exists() else expected
    if found != expected:
        raise InputError(
            f"{model_file}: the model was trained with a tokenizer of checksum {expected}, but {tokenizer.name} has "
            f"the checksum {found}: it was made again since; restore it, or train the model again with --fresh true"
        )


def _weight_sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of weights in bytes; broken links are left out."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.pth")) if path.is_file()}


def _describe_table(path: str | Path) -> str:
    lines = Path(path).read_bytes().count(b"\n") if Path(path).is_file() else 0
    return f"{lines} utterances, checksum {checksum(path)}"


def _is_free(name: str) -> bool:
    return name in _FREE or name.startswith(_FREE_PREFIXES) or name.endswith(_FREE_SUFFIXES)


def _plain(name: str, value: Any) -> Any:
    """Return the value of an option as in ``config.yaml``, with current names; the version of the code is free."""
    if name in RENAMED_OPTIONS and isinstance(value, Mapping):
        value = rename_options(name, value)
    if name == "made_from":
        value = {key: each for key, each in value.items() if key != _CODE}
    return json.loads(json.dumps(value))
