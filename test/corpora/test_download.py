"""Downloads from a local server that can resume, interrupt connections, and refuse."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harmonifuse_espnet.bin.download import main
from harmonifuse_espnet.corpora import download, librispeech, librispeech_archives
from harmonifuse_espnet.corpora.download import fetch, unpack

PAYLOAD = bytes(range(256)) * 1000


class Server(ThreadingHTTPServer):
    """Serves ``files``.

    Attributes:
        max_bytes: Maximum size of a response, after which the connection is closed.
        ranges: Whether the server supports ranges.
        starts: First byte of each response.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": PAYLOAD}
        self.max_bytes, self.ranges = 10**9, True
        self.starts: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        assert match is not None
        start = int(match[1]) if self.server.ranges else 0
        self.server.starts.append(start)
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.max_bytes])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive(files: dict[str, str]) -> bytes:
    """Return a gzipped tar archive of some files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as members:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            members.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_file_is_downloaded_only_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        fetch(f"{server.url}/a.bin", tmp_path / "new" / "a.bin", md5(PAYLOAD))
    assert (tmp_path / "new" / "a.bin").read_bytes() == PAYLOAD
    assert server.starts == [0]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_an_interrupted_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.max_bytes = 100_000
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(PAYLOAD))
    assert (tmp_path / "a.bin").read_bytes() == PAYLOAD
    assert server.starts == [0, 100_000, 200_000]


def test_a_later_call_resumes_an_interrupted_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(PAYLOAD[:70_000])
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(PAYLOAD))
    assert server.starts == [70_000]
    (tmp_path / "b.bin.part").write_bytes(PAYLOAD)  # interrupted between the last byte and the renaming
    fetch(f"{server.url}/a.bin", tmp_path / "b.bin", md5(PAYLOAD))
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes() == PAYLOAD


def test_a_server_that_cannot_resume_sends_the_whole_file_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 70_000)
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(PAYLOAD))
    assert (tmp_path / "a.bin").read_bytes() == PAYLOAD


def test_after_five_attempts_without_data_the_partial_download_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(PAYLOAD[:70_000])
    server.max_bytes = 0
    with pytest.raises(
        OSError, match=r"a\.bin: the connection was interrupted, after 70,000 bytes, 5 times in a row; run"
    ):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(PAYLOAD))
    assert server.starts == [70_000] * 5
    assert (tmp_path / "a.bin.part").read_bytes() == PAYLOAD[:70_000]


def test_a_wrong_md5_sum_is_an_error_and_removes_the_download(server: Server, tmp_path: Path) -> None:
    expected = md5(b"another")
    with pytest.raises(ValueError, match=rf"a\.bin: MD5 sum {md5(PAYLOAD)}, expected {expected}; .* run the command"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", expected)
    assert not list(tmp_path.iterdir())


def test_a_refusal_and_a_missing_server_have_different_errors(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nothing: the server responds 404 Not Found; check --base_url"):
        fetch(f"{server.url}/nothing", tmp_path / "a.bin", md5(PAYLOAD))
    with pytest.raises(OSError, match=r"no connection \(.*refused.*\), after 0 bytes, 5 times in a row"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", md5(PAYLOAD))


def test_the_error_for_a_full_disk_names_the_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write to this folder \(No space left on device\); free space"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(PAYLOAD))


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_no_member_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(archive({"inside": "1", name: "2"}))
    if name.startswith("/"):  # treated as a relative path
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
        assert (tmp_path / "out" / "outside").read_text() == "2"
    else:
        with pytest.raises(ValueError, match=r"a\.tar\.gz: cannot be unpacked \(.*outside.*\); remove it"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = archive({"a": "1" * 100_000, "b": "2" * 100_000})
    for damaged in (whole[: len(whole) // 2], b"<html>no such page</html>"):
        (tmp_path / "a.tar.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.tar\.gz: cannot be unpacked"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A mirror with one small subset."""
    chapter = "LibriSpeech/dev-clean-2/7/121/7-121"
    content = archive(
        {"LibriSpeech/SPEAKERS.TXT": "7 | F | dev-clean-2 | 1 | A\n", f"{chapter}.trans.txt": "7-121-0000 YES\n"}
        | {f"{chapter}-0000.flac": "fLaC"}
    )
    server.files["/31/dev-clean-2.tar.gz"] = content
    monkeypatch.setitem(librispeech_archives.ARCHIVES, "dev-clean-2", (31, md5(content)))
    return server


def test_a_subset_is_downloaded_unpacked_and_ready_to_prepare(
    mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["librispeech", str(tmp_path), "--base_url", f"{mirror.url}/", "--subsets", "dev-clean-2"]
    main(command)
    final = tmp_path / "LibriSpeech" / "dev-clean-2"
    assert capsys.readouterr().out == f"{final}: downloaded and unpacked\n"
    assert [row.text for row in librispeech.prepare(tmp_path, label="gender")["dev_clean_2"]] == ["female"]
    assert [path.name for path in tmp_path.iterdir()] == ["LibriSpeech"]
    main(command)
    assert capsys.readouterr().out == f"{final}: already exists\n"
    assert len(mirror.starts) == 1


def test_interrupted_unpacking_is_repeated_from_the_kept_archive(mirror: Server, tmp_path: Path) -> None:
    command = ["librispeech", str(tmp_path), "--base_url", mirror.url, "--subsets", "dev-clean-2"]
    main([*command, "--keep_archives", "true"])
    (tmp_path / "LibriSpeech" / "dev-clean-2").rename(tmp_path / ".dev-clean-2.unfinished")
    main([*command, "--keep_archives", "true"])
    assert (tmp_path / "LibriSpeech/dev-clean-2/7/121/7-121-0000.flac").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LibriSpeech", "dev-clean-2.tar.gz"]
    assert len(mirror.starts) == 1


def test_an_archive_without_the_subset_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = archive({"readme": "1"})
    server.files["/12/dev-clean.tar.gz"] = content
    monkeypatch.setitem(librispeech_archives.ARCHIVES, "dev-clean", (12, md5(content)))
    with pytest.raises(SystemExit, match="1"):
        main(["librispeech", str(tmp_path), "--base_url", server.url, "--subsets", "dev-clean"])
    assert "dev-clean.tar.gz: has no LibriSpeech/dev-clean; use OpenSLR's archive" in capsys.readouterr().err


def test_the_error_for_an_unknown_subset_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["librispeech", "out", "--subsets", "train-clean-1000"])
    error = capsys.readouterr().err
    assert "invalid choice: 'train-clean-1000'" in error and "train-other-500" in error


def test_every_subset_of_the_release_has_an_archive() -> None:
    archives = librispeech_archives.ARCHIVES
    assert set(archives) == {*librispeech.COUNTS, "train-clean-5", "dev-clean-2"}
    assert all(re.fullmatch("[0-9a-f]{32}", sum_) for _, sum_ in archives.values())
    assert len({sum_ for _, sum_ in archives.values()}) == 9
