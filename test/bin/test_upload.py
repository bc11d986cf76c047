"""Upload to the Hugging Face Hub: dry run, model card, and error messages."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import huggingface_hub
import pytest
import yaml

from harmonifuse_espnet.bin.upload import main

FILES = {
    "meta.yaml": "yaml_files: {train_config: exp/slm/config.yaml}\nfiles: {model_file: exp/slm/model.pth}\n",
    "exp/slm/config.yaml": "tokenizer: data/tokenizer/bpe.model\ntasks: {asr: {}, ser: {}}\n",
    "exp/slm/model.pth": "w" * 1234,
    "RESULTS.md": "# RESULTS\n\n## exp/slm\n\n### WER\n\n|dataset|Err|\n|---|---|\n|test|7.3|\n",
}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return tmp_path / "model.zip"


class RecordingApi:
    """Stub of the Hub's API that records the calls and the uploaded files."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    files: ClassVar[dict[str, str]] = {}

    def create_repo(self, **options: Any) -> None:
        self.calls.append(("create_repo", options))

    def upload_folder(self, **options: Any) -> SimpleNamespace:
        folder = Path(options.pop("folder_path"))
        self.calls.append(("upload_folder", options))
        self.files.update({str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*")})
        return SimpleNamespace(commit_url="https://huggingface.co/me/slm/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[RecordingApi]:
    monkeypatch.setattr(RecordingApi, "calls", [])
    monkeypatch.setattr(RecordingApi, "files", {})
    monkeypatch.setattr(huggingface_hub, "HfApi", RecordingApi)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    return RecordingApi


def test_a_dry_run_lists_the_files_and_uploads_nothing(
    packed: Path, hub: type[RecordingApi], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--packed", str(packed), "--repo", "me/slm", "--dry_run", "true"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "these files would be uploaded to https://huggingface.co/me/slm:"
    assert [line.split()[-1] for line in lines[1:]] == sorted([*FILES, "README.md"])
    assert "         1,234 bytes  exp/slm/model.pth" in lines
    assert hub.calls == []


def test_the_files_of_the_archive_and_a_model_card_are_uploaded(
    packed: Path, hub: type[RecordingApi], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--packed", str(packed), "--repo", "me/slm", "--private", "true", "--dataset", "an4", "--dataset", "crema_d"])
    assert capsys.readouterr().out.endswith("uploaded: https://huggingface.co/me/slm/commit/1\n")
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    assert hub.calls[0][1] == {"repo_id": "me/slm", "private": True, "exist_ok": True}
    assert hub.calls[1][1]["repo_id"] == "me/slm"
    assert {name: hub.files[name] for name in FILES} == FILES
    _, header, body = hub.files["README.md"].split("---\n", 2)
    card = yaml.safe_load(header)
    assert (card["license"], card["language"], card["datasets"]) == ("cc-by-4.0", "en", ["an4", "crema_d"])
    assert {"espnet", "audio", "speech-language-model", "automatic-speech-recognition"} == set(card["tags"])
    assert "from harmonifuse_espnet import Speech2Text\n" in body
    assert 'Speech2Text.from_pretrained("me/slm")' in body
    assert 'print(model("speech.wav", task="ser"))' in body
    assert "## Results\n\n### exp/slm\n\n#### WER\n\n|dataset|Err|\n|---|---|\n|test|7.3|\n" in body


def test_without_a_login_the_message_explains_how_to_log_in(
    packed: Path, hub: type[RecordingApi], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SystemExit, match="1"):
        main(["--packed", str(packed), "--repo", "me/slm"])
    assert "not logged in to the Hugging Face Hub" in (error := capsys.readouterr().err)
    assert "'hf auth login'" in error
    assert hub.calls == []


@pytest.mark.parametrize(
    ("content", "repo", "message"),
    [
        (None, "me/slm", "no such archive; stage 9 (pack) creates it"),
        (b"no zip", "me/slm", "m.zip: neither a zip nor a tar archive; run stage 9 (pack) again"),
        (b"PK\x05\x06" + bytes(18), "me/slm", "not a packed model, it has no meta.yaml"),
        (b"", "slm", "--repo must be user/name, got 'slm'"),
    ],
)
def test_invalid_input_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, repo: str, message: str
) -> None:
    if content is not None:
        (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises(SystemExit, match="1"):
        main(["--packed", str(tmp_path / "m.zip"), "--repo", repo, "--dry_run", "true"])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"../../ESCAPED": "x"},
            "the member '../../ESCAPED' leads out of the folder ('..'), so nothing was unpacked; get the "
            "model from a source that you trust",
        ),
        (
            {"meta.yaml": "yaml_files: {train_config: /etc/passwd}\n"},
            "meta.yaml: yaml_files.train_config is '/etc/passwd', "
            "which has an absolute name; ask its author to pack it again (stage 9)",
        ),
    ],
)
def test_a_harmful_archive_is_not_uploaded(
    changes: dict[str, str], problem: str, tmp_path: Path, hub: type[RecordingApi], capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name, content in {**FILES, **changes}.items():
            archive.writestr(name, content)
    with pytest.raises(SystemExit, match="1"):
        main(["--packed", str(tmp_path / "m.zip"), "--repo", "me/slm"])
    assert capsys.readouterr().err == f"error: {tmp_path}/m.zip: {problem}\n"
    assert hub.calls == [] and [path.name for path in tmp_path.iterdir()] == ["m.zip"]
