"""Check of the files that training needs: required options, tables, tokenizers, and checkpoints. Needs no PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import require_file
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.gpu import check_gpu_driver
from harmonifuse_espnet.data.hugging_face_tokenizer import HUGGING_FACE_FILE
from harmonifuse_espnet.data.stats import stats_path
from harmonifuse_espnet.data.tokenizer import load_tokenizer
from harmonifuse_espnet.train.checkpoints import check_checkpoints, is_complete

REQUIRED = ("output_dir", "tasks", "tokenizer")
DATA_NAMES = ("speech", "text", "task")
SPEECH_TYPES = ("sound", "kaldi_ark")


def check_inputs(args: argparse.Namespace, needs_gpu: bool) -> None:
    """Check that required options are given and that files exist; ``args`` are the training options.

    Raises:
        InputError: if an option is missing, contradicts the data, or a checkpoint is damaged.
        MissingFileError: if a file does not exist; the message names the stage that creates it.
    """
    missing = [f"--{name}" for name in args.required if not getattr(args, name)]
    if missing:
        raise InputError(f"required options are missing: {', '.join(missing)}")
    if needs_gpu:
        check_gpu_driver(args.ngpu)
    for name, chat_template in ((args.tokenizer, args.chat_template), (args.ctc_tokenizer, False)):
        if name:
            _check_tokenizer(name, chat_template)
    stats_path(args.feats_stats)
    for entry in args.init_param:
        _check_initial_parameters(entry)
    if not (args.dry_run or args.collect_stats):
        for kind in ("train", "valid"):
            _check_data(kind, getattr(args, f"{kind}_data_path_and_name_and_type"), getattr(args, f"{kind}_shape_file"))
    if args.resume and not args.fresh and args.output_dir:
        check_checkpoints(Path(args.output_dir))


def _check_tokenizer(name: str, chat_template: bool) -> None:
    """Load a sentencepiece tokenizer; that of a language model is not loaded, since it imports transformers."""
    path = Path(name)
    may_be_on_hub = not path.exists() and not path.is_absolute() and not name.startswith(".") and len(path.parts) <= 2
    if not (path / HUGGING_FACE_FILE).is_file() and (not may_be_on_hub or path.suffix == ".model"):
        load_tokenizer(name, chat_template)


def _check_initial_parameters(entry: str) -> None:
    """Check the file of ``--init_param file:source:target:excluded``."""
    path, *keys = entry.split(":")
    if Path(path).is_file():
        if not is_complete(Path(path)):
            raise InputError(
                f"--init_param: {path} ({Path(path).stat().st_size:,} bytes) is truncated or not a checkpoint of "
                "PyTorch; restore it or give another one"
            )
        return
    longer = [":".join([path, *keys[: number + 1]]) for number in range(len(keys))]
    if any(Path(name).is_file() for name in longer):
        raise InputError(
            f"--init_param {entry}: the path has a colon, but colons separate the path from the names of parameters; "
            "give a path without one, such as that of a symbolic link"
        )
    raise MissingFileError(f"--init_param {entry}: {path}: no such file; correct the path, or train that model first")


def _check_data(kind: str, entries: Sequence[tuple[str, str, str]], shape_files: Sequence[str]) -> None:
    """Check the tables and shape files of the training or validation set."""
    option = f"--{kind}_data_path_and_name_and_type"
    names = [name for _, name, _ in entries]
    if sorted(names) != sorted(DATA_NAMES):
        raise InputError(
            f"{option} has the names {', '.join(names) or 'none'}; expected one entry path,name,type for each of "
            f"{', '.join(DATA_NAMES)}"
        )
    for path, name, kind_of_file in entries:
        require_file(path, "prepare the data again: stage 2 creates it, stage 3 that of features")
        known = SPEECH_TYPES if name == "speech" else ("text",)
        if kind_of_file not in known:
            raise InputError(f"{option} {path},{name},{kind_of_file}: the type of {name} must be {' or '.join(known)}")
    if len(shape_files) != 2:
        raise InputError(
            f"--{kind}_shape_file is given {len(shape_files)} times; expected speech_shape and text_shape of stage 5"
        )
    for path in shape_files:
        require_file(path, "collect_stats (stage 5) creates it")
