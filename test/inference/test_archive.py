"""Archives: every type is unpacked as it was; members that could write elsewhere are refused before any is written."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harmonifuse_espnet.common.errors import AccessError, InputError
from harmonifuse_espnet.inference import archive as archives
from harmonifuse_espnet.inference.archive import unpack, unsafe_name

FILES = {
    "meta.yaml": b"a: 1\n",
    "exp/slm/config.yaml": b"b: 2\n" * 1000,
    "exp/slm/empty": b"",
    "data/x.bin": bytes(3000),
}
REFUSED = "so nothing was unpacked; get the model from a source that you trust"
MODES = {"zip": "", "tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


class Writer:
    """Writes an archive of any type, with members that a sane program would not write."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.zip = zipfile.ZipFile(path, "w") if kind == "zip" else None
        self.tar: Any = None
        if kind != "zip":
            self.tar = tarfile.open(path, MODES[kind])  # type: ignore[call-overload] # noqa: SIM115

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        (self.zip or self.tar).close()

    def file(self, name: str, content: bytes = b"x") -> None:
        if self.zip is not None:
            self.zip.writestr(zipfile.ZipInfo(name), content)
        else:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            self.tar.addfile(info, io.BytesIO(content))

    def special(self, name: str, tar_type: bytes, mode: int, target: str = "") -> None:
        """Add a link or a device; a hard link is a symbolic link in a zip."""
        if self.zip is not None:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (mode | 0o777) << 16
            self.zip.writestr(info, target)
        else:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tar_type, target
            self.tar.addfile(member)


def write(tmp_path: Path, kind: str, attack: Callable[[Writer, Path], None] | None = None) -> Path:
    """Write the files of a model, then the members of an attack."""
    path = tmp_path / f"model.{kind}"
    with Writer(path, kind) as writer:
        for name, content in FILES.items():
            writer.file(name, content)
        if attack is not None:
            attack(writer, tmp_path)
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty folder, two folders below ``tmp_path``, which has a file to overwrite."""
    (tmp_path / "victim").write_text("untouched")
    folder = tmp_path / "cache" / "model"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", MODES)
def test_the_files_of_every_type_are_unpacked_whatever_the_archive_is_called(
    kind: str, tmp_path: Path, target: Path
) -> None:
    sizes = unpack(write(tmp_path, kind).rename(tmp_path / "download"), target)
    assert files_in(target) == FILES
    assert sizes == {name: len(content) for name, content in FILES.items()}


def through_link(writer: Writer, outside: Path) -> None:
    writer.special("exp/out", tarfile.SYMTYPE, stat.S_IFLNK, str(outside))
    writer.file("exp/out/victim")


ATTACKS: dict[str, tuple[Callable[[Writer, Path], None], str]] = {
    "parent": (lambda w, _: w.file("../../victim"), "the member '../../victim' leads out of the folder ('..')"),
    "parent inside": (
        lambda w, _: w.file("exp/../../victim"),
        "the member 'exp/../../victim' leads out of the folder ('..')",
    ),
    "parent that stays inside": (
        lambda w, _: w.file("exp/../a"),
        "the member 'exp/../a' leads out of the folder ('..')",
    ),
    "absolute": (lambda w, path: w.file(f"{path}/victim"), "the member '{0}/victim' has an absolute name"),
    "drive": (lambda w, _: w.file("C:/victim"), "the member 'C:/victim' has an absolute name"),
    "backslash": (
        lambda w, _: w.file("..\\..\\victim"),
        "the member '..\\\\..\\\\victim' has a backslash or a control character in its name",
    ),
    "line break": (
        lambda w, _: w.file("a\nerror: b"),
        "the member 'a\\nerror: b' has a backslash or a control character in its name",
    ),
    "file through a link": (through_link, "the member 'exp/out' is a link"),
    "link to a file": (
        lambda w, path: w.special("weights", tarfile.SYMTYPE, stat.S_IFLNK, f"{path}/victim"),
        "the member 'weights' is a link",
    ),
    "hard link": (
        lambda w, _: w.special("weights", tarfile.LNKTYPE, stat.S_IFLNK, "../../victim"),
        "the member 'weights' is a link",
    ),
    "device": (
        lambda w, _: w.special("weights", tarfile.CHRTYPE, stat.S_IFCHR),
        "the member 'weights' is neither a file nor a folder",
    ),
    "pipe": (
        lambda w, _: w.special("weights", tarfile.FIFOTYPE, stat.S_IFIFO),
        "the member 'weights' is neither a file nor a folder",
    ),
    "twice": (lambda w, _: w.file("meta.yaml"), "the member 'meta.yaml' is a duplicate"),
    "twice under two names": (
        lambda w, _: w.file("./exp//slm/./config.yaml"),
        "the member './exp//slm/./config.yaml' is a duplicate",
    ),
    "file and folder": (lambda w, _: w.file("meta.yaml/a"), "the member 'meta.yaml' is both a file and a folder"),
    "the folder itself": (lambda w, _: w.file("."), "the member '.' is both a file and a folder"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.bz2", "tar.xz"])
def test_a_member_that_could_write_elsewhere_is_refused_and_nothing_is_written(
    kind: str, attack: str, tmp_path: Path, target: Path
) -> None:
    add, problem = ATTACKS[attack]
    path = write(tmp_path, kind, add)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value) == f"{path}: {problem.format(tmp_path)}, {REFUSED}"
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "victim").read_text() == "untouched"
    assert list(target.iterdir()) == []


def test_a_name_that_ends_at_a_zero_byte_is_refused(tmp_path: Path, target: Path) -> None:
    path = write(tmp_path, "zip", lambda w, _: w.file("weightsXsafe"))
    path.write_bytes(path.read_bytes().replace(b"weightsXsafe", b"weights\0safe"))
    with pytest.raises(InputError) as error:
        unpack(path, target)
    problem = r"the member 'weights\x00safe' has a backslash or a control character in its name"
    assert str(error.value) == f"{path}: {problem}, {REFUSED}"


def test_an_encrypted_member_is_refused(tmp_path: Path, target: Path) -> None:
    path = write(tmp_path, "zip")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory's last entry
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value) == f"{path}: the member 'data/x.bin' is encrypted, {REFUSED}"


def test_more_bytes_than_the_disk_has_are_refused(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(len(content) for content in FILES.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, total - 1))  # type: ignore
    path = write(tmp_path, "zip")
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value) == (
        f"{path}: its files have {total:,} bytes, but the disk of {target} has {total - 1:,} bytes free, so nothing "
        "was unpacked; free space there"
    )
    assert list(target.iterdir()) == []


def test_a_zip_with_more_bytes_than_it_declares_is_refused(tmp_path: Path, target: Path) -> None:
    """As in a zip bomb whose directory says little; only the declared bytes are written."""
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a", bytes(10**6))
    path.write_bytes(path.read_bytes().replace((10**6).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(
        InputError, match=r"model\.zip: damaged or incomplete, [\d,]+ bytes \(Bad CRC-32 for file 'a'\); "
    ):
        unpack(path, target)
    assert sum(len(content) for content in files_in(target).values()) <= 100


def test_too_many_members_are_refused(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = write(tmp_path, "tgz")
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value) == f"{path}: has 4 members, more than 3, {REFUSED}"


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6])  # a tar ends with up to 10 kB of zeros
def test_a_truncated_archive_is_named_with_its_size(kind: str, fraction: float, tmp_path: Path, target: Path) -> None:
    path = write(tmp_path, kind, lambda w, _: w.file("noise", np.random.default_rng(0).bytes(20000)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError) as error:
        unpack(path, target)
    message, size = str(error.value), f"{int(len(data) * fraction):,}"
    no_archive = message == f"{path}: neither a zip nor a tar archive; download or pack the model again"
    assert no_archive or message.startswith(f"{path}: damaged or incomplete, {size} bytes (")
    assert message.endswith("; download or pack the model again") and "\n" not in message


def test_a_zip_whose_directory_leads_before_the_file_is_refused(tmp_path: Path, target: Path) -> None:
    path = write(tmp_path, "zip")
    data = bytearray(path.read_bytes())
    data[-6:-2] = len(data).to_bytes(4, "little")  # the offset of the directory: Python seeks to a negative position
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value).startswith(f"{path}: damaged or incomplete, {len(data):,} bytes (")


@pytest.mark.parametrize("content", [b"", b"no archive", b"<!DOCTYPE html>\n<html>"])
def test_another_file_is_refused(content: bytes, tmp_path: Path, target: Path) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.zip: (neither a zip nor a tar|damaged or incomplete)"):
        unpack(tmp_path / "model.zip", target)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harmonifuse_espnet.inference.archive.os.fsync", full)
    with pytest.raises(AccessError, match=rf"^{target}: cannot write to this folder \(No space left on device\); free"):
        unpack(write(tmp_path, "tgz"), target)


@pytest.mark.parametrize("name", ["a", "a/b.c", "Ωmega/ä b.txt", "..a/b..", "-x"])
def test_harmless_names_are_safe(name: str) -> None:
    assert unsafe_name(name) == ""
