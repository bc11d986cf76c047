"""Errors in the processes that load data have one line."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.train.worker_errors import report_killed_workers


class Failing(torch.utils.data.Dataset[int]):
    """A dataset whose only example raises an error, or kills its process."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        assert self.error is not None
        try:
            raise KeyError("InputError: inner")
        except KeyError as error:
            raise self.error from error


@pytest.mark.parametrize("error", [InputError("a.flac: the audio is empty"), MissingFileError("b.flac: no such file")])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_user_error_of_a_worker_has_its_message_and_class(error: Any, workers: int) -> None:
    with pytest.raises(type(error)) as raised, report_killed_workers():
        next(iter(DataLoader(Failing(error), num_workers=workers)))
    assert str(raised.value) == str(error) and type(raised.value) is type(error)


def test_a_traceback_is_left_out_of_a_message_of_several_lines() -> None:
    error = InputError("Caught InputError in DataLoader worker process 3.\nOriginal Traceback:\nInputError: a\nb\n")
    assert str(error) == "a\\nb"
    assert str(InputError("Caught cold")) == "Caught cold"


def test_other_errors_of_a_worker_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="Original Traceback"), report_killed_workers():
        next(iter(DataLoader(Failing(ZeroDivisionError("division")), num_workers=1)))
    with pytest.raises(RuntimeError, match="CUDA"), report_killed_workers():
        raise RuntimeError("CUDA error")


def test_a_killed_worker_is_reported_with_the_likely_cause() -> None:
    with pytest.raises(InputError) as raised, report_killed_workers():
        next(iter(DataLoader(Failing(None), num_workers=1)))
    start, _, end = str(raised.value).partition(") ")
    assert start.startswith("a process that loads data (pid ")
    assert end == (
        "was ended, probably because the memory of the machine was full; use a smaller num_workers or smaller batches "
        "(batch_size, batch_bins), then run the command again with --resume true"
    )


def test_another_signal_is_named() -> None:
    message = r"\(pid 7\) was ended by the signal 'Segmentation fault', probably"
    with pytest.raises(InputError, match=message), report_killed_workers():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ")
