"""Check of the checkpoints of an experiment before training is resumed. Needs no PyTorch."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError

CHECKPOINT = "checkpoint.pth"
_WRITE_FAILED = re.compile(r"iostream error|PytorchStreamWriter|inline_container")
_OF_EPOCH = re.compile(r"(\d+)epoch\.pth")


@contextmanager
def writing_checkpoints(folder: Path) -> Iterator[None]:
    """Convert PyTorch's error for a checkpoint that cannot be written, which names neither file nor cause.

    Raises:
        AccessError: if a checkpoint could not be written; the message has the free space.
    """
    try:
        yield
    except RuntimeError as error:
        if not _WRITE_FAILED.search(str(error)):
            raise
        free = shutil.disk_usage(folder).free
        raise AccessError(
            f"{folder}: a checkpoint could not be written, the disk has {free:,} bytes free; free space, then run the "
            "command again with --resume true"
        ) from error


def is_complete(path: Path) -> bool:
    """Whether a file of ``torch.save``, a zip archive, was written to its end."""
    return zipfile.is_zipfile(path)


def check_checkpoints(folder: Path) -> None:
    """Check that training can be resumed in ``folder``, if it has a checkpoint.

    The weights of the newest epoch may be truncated: the checkpoint, which is written before them, has them as well.

    Raises:
        InputError: if ``checkpoint.pth`` or the weights of another epoch are truncated.
    """
    checkpoint = folder / CHECKPOINT
    if not checkpoint.exists():
        return
    epochs = {int(match[1]): path for path in folder.iterdir() if (match := _OF_EPOCH.fullmatch(path.name))}
    complete = [epoch for epoch in sorted(epochs) if is_complete(epochs[epoch])]
    if not is_complete(checkpoint):
        start = f" from the weights of epoch {complete[-1]}: --init_param {epochs[complete[-1]]}" if complete else ""
        raise InputError(
            f"{checkpoint}: truncated or not a checkpoint ({checkpoint.stat().st_size:,} bytes), so training cannot be "
            "resumed; restore it from a backup, or train again: with --fresh true, or in another folder (in run.sh: "
            f"--tag){start}"
        )
    for epoch in sorted(epochs)[:-1]:
        if epoch not in complete:
            _refuse_truncated(epochs[epoch])


def require_epochs(folder: Path, epochs: Iterable[int]) -> None:
    """Check that the weights of the best epochs so far, which are averaged at the end of training, can be read.

    Raises:
        MissingFileError: if one is missing.
        InputError: if one is truncated.
    """
    for path in (folder / f"{epoch}epoch.pth" for epoch in sorted(epochs)):
        if not path.is_file():
            raise MissingFileError(
                f"{path}: no such file, but this epoch is among the best so far, which are averaged at the end of "
                "training; restore it from a backup, or set a smaller keep_nbest_models"
            )
        if not is_complete(path):
            _refuse_truncated(path)


def _refuse_truncated(path: Path) -> NoReturn:
    raise InputError(
        f"{path}: truncated or not a checkpoint ({path.stat().st_size:,} bytes), but the best epochs are averaged at "
        "the end of training; restore it from a backup, or train again with --fresh true"
    )
