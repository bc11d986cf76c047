"""Cache of unpacked models: one folder by content, whole or not there, found again, unpacked again when damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harmonifuse_espnet.common.errors import AccessError, InputError
from harmonifuse_espnet.inference import model_cache
from harmonifuse_espnet.inference.model_cache import cache_dir, download_once, is_intact, unpack_once


def accept(folder: Path) -> None:
    """Accept any folder as a packed model."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARMONIFUSE_MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_zip(path: Path, content: str = "weights") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("exp/a.bin", content)
        archive.writestr("meta.yaml", "a: 1")
    return path


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        ("/data/models", "/xdg", "/data/models"),
        ("~/models", None, "{home}/models"),
        ("", "/xdg", "/xdg/harmonifuse_espnet/models"),
        (None, "relative", "{home}/.cache/harmonifuse_espnet/models"),
        (None, None, "{home}/.cache/harmonifuse_espnet/models"),
    ],
)
def test_the_cache_is_in_the_users_cache_folder(
    own: str | None, shared: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("HARMONIFUSE_MODEL_CACHE", own), ("XDG_CACHE_HOME", shared)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected.format(home=tmp_path))


def test_an_archive_is_unpacked_once_under_its_sum_from_any_path(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "a.zip")
    folder = unpack_once(archive, accept)
    assert folder == cache / sha256(archive.read_bytes()).hexdigest() / "model"
    assert (folder / "exp" / "a.bin").read_text() == "weights"
    assert [path.name for path in cache.iterdir()] == [folder.parent.name]
    monkeypatch.setattr(model_cache, "unpack", None)  # a second call would fail
    copy = archive.rename(tmp_path / "other name")
    monkeypatch.chdir("/")
    assert unpack_once(copy, accept) == folder


def test_an_archive_that_is_packed_again_under_the_same_path_is_unpacked_again(cache: Path, tmp_path: Path) -> None:
    first = unpack_once(write_zip(tmp_path / "a.zip"), accept)
    second = unpack_once(write_zip(tmp_path / "a.zip", "others"), accept)
    assert first != second and (first / "exp/a.bin").read_text() == "weights"
    assert (second / "exp/a.bin").read_text() == "others"


@pytest.mark.parametrize("damage", ["truncated", "removed", "no manifest", "other manifest"])
def test_a_damaged_cache_is_noticed_and_unpacked_again(damage: str, cache: Path, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    folder = unpack_once(archive, accept)
    file, manifest = folder / "exp/a.bin", folder.parent / "manifest.json"
    if damage == "truncated":
        file.write_text("wei")
    elif damage == "removed":
        file.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("[1]")
    assert not is_intact(folder.parent)
    assert unpack_once(archive, accept) == folder and file.read_text() == "weights" and is_intact(folder.parent)
    assert [path.name for path in cache.iterdir()] == [folder.parent.name]


def test_a_folder_that_is_no_packed_model_is_not_kept(cache: Path, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise InputError(f"no model: {sorted(path.name for path in folder.iterdir())}")

    with pytest.raises(InputError, match=r"no model: \['exp', 'meta.yaml'\]"):
        unpack_once(write_zip(tmp_path / "a.zip"), refuse)
    assert list(cache.iterdir()) == []


def test_a_killed_call_leaves_no_model_and_the_next_call_removes_its_files(cache: Path, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom harmonifuse_espnet.inference import archive, model_cache\n"
        "archive._write = lambda *_: os.kill(os.getpid(), 9)\n"
        "model_cache.unpack_once(Path(sys.argv[1]), lambda _: None)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(archive)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    assert killed.returncode == -9 and len(list(cache.iterdir())) == 1
    folder = unpack_once(archive, accept)
    assert [path.name for path in cache.iterdir()] == [folder.parent.name]


def test_two_calls_at_once_unpack_the_same_folder(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process installs the model between this one's unpacking and renaming."""
    archive, install = write_zip(tmp_path / "a.zip"), model_cache._install

    def late(temporary: Path, entry: Path) -> None:
        other = temporary.with_name(".other")
        (other / "model").mkdir(parents=True)
        model_cache.unpack(archive, other / "model")
        (other / "manifest.json").write_text((temporary / "manifest.json").read_text())
        install(other, entry)
        install(temporary, entry)

    monkeypatch.setattr(model_cache, "_install", late)
    folder = unpack_once(archive, accept)
    assert is_intact(folder.parent) and [path.name for path in cache.iterdir()] == [folder.parent.name]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARMONIFUSE_MODEL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AccessError) as error:
        unpack_once(write_zip(tmp_path / "a.zip"), accept)
    assert str(error.value).startswith(
        f"{tmp_path}/file/cache: cannot write to this folder (Not a directory); check its p"
    )


class Handler(BaseHTTPRequestHandler):
    """Serves one archive with an ETag."""

    content: ClassVar[bytes] = b""
    cut: ClassVar[int | None] = None
    requests: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        etag = f'"{sha256(self.content).hexdigest()[:8]}"'
        status = 404 if self.path != "/m.zip" else 304 if self.headers["If-None-Match"] == etag else 200
        self.requests.append(status)
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(self.content) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(self.content[: self.cut])

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "requests", [])
    monkeypatch.setattr(Handler, "cut", None)
    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_an_archive_of_a_url_is_downloaded_once_and_again_when_it_changes(
    cache: Path, server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Handler.content = write_zip(tmp_path / "a.zip").read_bytes()
    first = download_once(f"{server}/m.zip", accept)
    assert first == cache / sha256(Handler.content).hexdigest() / "model"
    assert download_once(f"{server}/m.zip", accept) == first and Handler.requests == [200, 304]
    (first / "exp/a.bin").write_text("")  # damaged: downloaded again
    assert download_once(f"{server}/m.zip", accept) == first and Handler.requests == [200, 304, 200]
    assert (first / "exp/a.bin").read_text() == "weights"
    Handler.content = write_zip(tmp_path / "a.zip", "others").read_bytes()
    second = download_once(f"{server}/m.zip", accept)
    assert (second / "exp/a.bin").read_text() == "others" and Handler.requests[-1] == 200
    assert {path.name for path in cache.iterdir()} == {"urls", first.parent.name, second.parent.name}
    assert len(list((cache / "urls").iterdir())) == 1  # no archive is left
    assert not caplog.records


def test_without_a_connection_the_cached_model_is_used_with_a_warning(
    cache: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Handler.content = write_zip(tmp_path / "a.zip").read_bytes()
    folder = download_once(f"{server}/m.zip", accept)

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    assert download_once(f"{server}/m.zip", accept) == folder
    assert caplog.messages == [
        f"{server}/m.zip: no connection (Network is unreachable); the model that was downloaded before is used"
    ]
    with pytest.raises(AccessError) as error:
        download_once(f"{server}/other.zip", accept)
    assert str(error.value) == (
        f"{server}/other.zip: cannot be downloaded (Network is unreachable); check the address and the connection"
    )


def test_a_refused_or_interrupted_download_is_named_and_leaves_nothing(
    cache: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Handler.content = write_zip(tmp_path / "a.zip").read_bytes()
    with pytest.raises(AccessError) as error:
        download_once(f"{server}/absent.zip", accept)
    assert str(error.value) == (
        f"{server}/absent.zip: cannot be downloaded (the server responds 404 Not Found); check the address and the "
        "connection"
    )
    monkeypatch.setattr(Handler, "cut", 50)
    with pytest.raises(AccessError, match=r"m\.zip: cannot be downloaded \(.*50 "):
        download_once(f"{server}/m.zip", accept)
    assert [path.name for path in cache.rglob("*")] == ["urls"]
