"""Archives of packed models, zip or tar, unpacked so that nothing is written outside the target folder.

All members are checked before the first is written. Only regular files and folders with relative names are accepted.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from harmonifuse_espnet.common.errors import InputError, UserError
from harmonifuse_espnet.common.files import writing

MAX_MEMBERS = 100_000
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive.

    Attributes:
        name: Name as it is in the archive.
        size: Size of the file in bytes, as the archive declares it.
        is_dir: Whether it is a folder.
        problem: Why it cannot be unpacked, such as ``is a link``; '' if it can.
        open: Opens the file for reading.
    """

    name: str
    size: int
    is_dir: bool
    problem: str
    open: Callable[[], IO[bytes] | None]

    @property
    def path(self) -> PurePosixPath:
        """The name without ``.`` and empty parts."""
        return PurePosixPath(self.name)


def unpack(archive: Path, folder: Path, remedy: str = "download or pack the model again") -> dict[str, int]:
    """Unpack an archive into an empty folder; return the size of each file by its name.

    Args:
        archive: A zip file, or a tar file without compression or with gzip, bzip2 or xz.
        folder: Empty folder to write to.
        remedy: What the user can do about a damaged archive.

    Raises:
        InputError: if the file is no archive, is damaged, has a member that cannot be unpacked safely, or needs more
            space than the disk has. Unless it is damaged, nothing is written.
        AccessError: if ``folder`` cannot be written.
    """
    with _reading(archive, remedy), _open_members(archive) as members:
        if members is None:
            raise InputError(f"{archive}: neither a zip nor a tar archive; {remedy}")
        check_members(archive, members)
        _check_space(archive, members, folder)
        files = [member for member in members if not member.is_dir]
        for member in members:
            with writing(folder):
                (folder / member.path if member.is_dir else (folder / member.path).parent).mkdir(
                    parents=True, exist_ok=True
                )
        for member in files:
            _write(member, folder / member.path)
    return {str(member.path): member.size for member in files}


def check_members(archive: Path, members: Sequence[Member]) -> None:
    """Check that every member is a regular file or folder of its own inside the target folder.

    Raises:
        InputError: if not; the message names the member.
    """
    if len(members) > MAX_MEMBERS:
        raise _refusal(archive, f"has {len(members):,} members, more than {MAX_MEMBERS:,}")
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in members:
        problem = member.problem or unsafe_name(member.name)
        if problem:
            raise _refusal(archive, f"the member {member.name!r} {problem}")
        if not member.is_dir:
            if member.path in files:
                raise _refusal(archive, f"the member {member.name!r} is a duplicate")
            files.add(member.path)
        folders.update([member.path] if member.is_dir else [], member.path.parents)
    both = sorted(files & folders)
    if both:
        raise _refusal(archive, f"the member {str(both[0])!r} is both a file and a folder")


def unsafe_name(name: str) -> str:
    """Return why a name must not be used as a path inside a folder; '' if it can be.

    Example:
        >>> unsafe_name("exp/slm/config.yaml")
        ''
        >>> unsafe_name("../config.yaml")
        "leads out of the folder ('..')"
    """
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).anchor:
        return "has an absolute name"
    if ".." in path.parts:
        return "leads out of the folder ('..')"
    if "\\" in name or not name.isprintable():
        return "has a backslash or a control character in its name"
    return ""


def _refusal(archive: Path, problem: str) -> InputError:
    return InputError(f"{archive}: {problem}, so nothing was unpacked; get the model from a source that you trust")


@contextmanager
def _reading(archive: Path, remedy: str) -> Iterator[None]:
    """Convert the errors of damaged archives."""
    try:
        yield
    except (UserError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # damaged bytes raise almost anything in the readers of archives
        reason = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        size = archive.stat().st_size
        raise InputError(f"{archive}: damaged or incomplete, {size:,} bytes ({reason[:200]}); {remedy}") from error


@contextmanager
def _open_members(archive: Path) -> Iterator[Sequence[Member] | None]:
    """Open an archive of any type by its content, and list its members; None if it is no archive."""
    with open(archive, "rb") as file:
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    if zipped:
        with zipfile.ZipFile(archive) as opened:
            yield [_zip_member(opened, info) for info in opened.infolist()]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened_tar:
            yield [_tar_member(opened_tar, info) for info in opened_tar.getmembers()]
    else:
        yield None


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    problem = ""
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is a link" if kind == stat.S_IFLNK else "is neither a file nor a folder"
    elif info.flag_bits & 1:
        problem = "is encrypted"
    return Member(info.orig_filename, info.file_size, info.is_dir(), problem, lambda: opened.open(info))


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    problem = ""
    if info.issym() or info.islnk():
        problem = "is a link"
    elif info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        problem = "is neither a file nor a folder"
    return Member(info.name, info.size, info.isdir(), problem, lambda: opened.extractfile(info))


def _check_space(archive: Path, members: Sequence[Member], folder: Path) -> None:
    needed, free = sum(member.size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{archive}: its files have {needed:,} bytes, but the disk of {folder} has {free:,} bytes free, so nothing "
            "was unpacked; free space there"
        )


def _write(member: Member, path: Path) -> None:
    source = member.open()
    assert source is not None
    with source:
        written = write_blocks(path, source.read)
    if written != member.size:
        raise EOFError(f"{member.name!r} ends after {written:,} of {member.size:,} bytes")


def write_blocks(path: Path, read: Callable[[int], bytes]) -> int:
    """Write a new file from what ``read`` returns, block by block, down to the disk; return its size in bytes.

    Raises:
        AccessError: if the file cannot be written; errors of ``read`` are not changed.
    """
    with writing(path.parent):
        path.touch(exist_ok=False)
    size = 0
    with open(path, "wb") as file:
        while block := read(BLOCK):
            size += len(block)
            with writing(path.parent):
                file.write(block)
        with writing(path.parent):
            file.flush()
            os.fsync(file.fileno())
    return size
