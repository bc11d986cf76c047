"""Truncated and missing checkpoints are named before training is resumed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError
from harmonifuse_espnet.train.checkpoints import check_checkpoints, require_epochs, writing_checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("checkpoint.pth", "1epoch.pth", "2epoch.pth", "3epoch.pth"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("data.pkl", bytes(1000))
    return tmp_path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def message(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        check_checkpoints(folder)
    return str(error.value)


def test_complete_checkpoints_and_a_new_folder_are_accepted(folder: Path) -> None:
    check_checkpoints(folder)
    check_checkpoints(folder / "absent")
    cut(folder / "3epoch.pth")  # was being written; the checkpoint has these weights
    check_checkpoints(folder)


def test_a_truncated_checkpoint_is_named_with_the_newest_complete_weights(folder: Path) -> None:
    cut(folder / "checkpoint.pth")
    cut(folder / "3epoch.pth")
    start = (
        f"{folder}/checkpoint.pth: truncated or not a checkpoint (500 bytes), so training cannot be resumed; restore "
        "it from a backup, or train again: with --fresh true, or in another folder (in run.sh: --tag)"
    )
    assert message(folder) == f"{start} from the weights of epoch 2: --init_param {folder}/2epoch.pth"
    for epoch in (1, 2, 3):
        (folder / f"{epoch}epoch.pth").unlink()
    assert message(folder) == start
    (folder / "checkpoint.pth").write_bytes(b"")
    assert message(folder) == start.replace("500", "0")


def test_truncated_weights_of_an_earlier_epoch_are_named(folder: Path) -> None:
    cut(folder / "1epoch.pth")
    text = (
        f"{folder}/1epoch.pth: truncated or not a checkpoint (500 bytes), but the best epochs are averaged at the end "
        "of training; restore it from a backup, or train again with --fresh true"
    )
    assert message(folder) == text
    with pytest.raises(InputError) as error:
        require_epochs(folder, {1, 2})
    assert str(error.value) == text


def test_missing_weights_of_a_best_epoch_are_named(folder: Path) -> None:
    require_epochs(folder, {1, 3})
    (folder / "1epoch.pth").unlink()
    with pytest.raises(MissingFileError) as error:
        require_epochs(folder, {1, 3})
    assert str(error.value) == (
        f"{folder}/1epoch.pth: no such file, but this epoch is among the best so far, which are averaged at the end "
        "of training; restore it from a backup, or set a smaller keep_nbest_models"
    )


def test_a_checkpoint_that_cannot_be_written_is_an_error_with_the_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1234)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for text in ("basic_ios::clear: iostream error", "[enforce fail at inline_container.cc:672] . unexpected pos 2"):
        with pytest.raises(AccessError) as error, writing_checkpoints(tmp_path):
            raise RuntimeError(text)
        assert str(error.value) == (
            f"{tmp_path}: a checkpoint could not be written, the disk has 1,234 bytes free; free space, then run the "
            "command again with --resume true"
        )
    with pytest.raises(RuntimeError, match="another error"), writing_checkpoints(tmp_path):
        raise RuntimeError("another error")
