"""Downloading models, from a Hub that is a dictionary."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fetch_models
import httpx2
import pytest
from fetch_models import main, names_of, wanted
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

HUB = {
    "microsoft/wavlm-large": {
        "README.md": 1, "config.json": 2, "preprocessor_config.json": 3, "pytorch_model.bin": 1_262_000_000,
    },
    "Qwen/Qwen2.5-1.5B": {
        "config.json": 2, "generation_config.json": 2, "merges.txt": 5, "model-00001-of-00002.safetensors": 7_000,
        "model-00002-of-00002.safetensors": 8_000, "model.safetensors.index.json": 3, "pytorch_model.bin": 15_000,
        "onnx/config.json": 9, "tokenizer.json": 4, "tokenizer_config.json": 4, "training_args.bin": 1, "vocab.json": 6,
    },
}  # fmt: skip
QWEN_FILES = [name for name in HUB["Qwen/Qwen2.5-1.5B"] if "/" not in name and not name.endswith(".bin")]


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The downloads: name -> arguments of ``snapshot_download``."""
    calls: dict[str, dict[str, Any]] = {}

    class FakeApi:
        def model_info(self, name: str, files_metadata: bool) -> SimpleNamespace:
            siblings = [SimpleNamespace(rfilename=file, size=size) for file, size in HUB[name].items()]
            return SimpleNamespace(siblings=siblings, sha="0123abc")

    monkeypatch.setattr(fetch_models, "HfApi", FakeApi)
    monkeypatch.setattr(fetch_models, "snapshot_download", lambda name, **options: calls.update({name: options}))
    return calls


def test_each_model_gets_a_folder_with_its_weights_once(
    downloads: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path), *HUB])
    assert {name: options["allow_patterns"] for name, options in downloads.items()} == {
        "microsoft/wavlm-large": ["config.json", "preprocessor_config.json", "pytorch_model.bin"],
        "Qwen/Qwen2.5-1.5B": QWEN_FILES,
    }
    assert {options["local_dir"] for options in downloads.values()} == {tmp_path / name for name in HUB}
    assert {options["revision"] for options in downloads.values()} == {"0123abc"}
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/microsoft/wavlm-large: 3 files, 1.26 GB, revision 0123abc",
        f"{tmp_path}/Qwen/Qwen2.5-1.5B: {len(QWEN_FILES)} files, 0.00 GB, revision 0123abc",
        "Next: ./run.sh --encoder <folder> --llm <folder>",
    ]


def test_a_recipes_config_names_its_models(
    downloads: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        "frontend_conf: {model: microsoft/wavlm-large, freeze: true}\ndecoder_conf: {model: Qwen/Qwen2.5-1.5B}\n"
    )
    main([str(tmp_path), "--config", str(config)])
    assert list(downloads) == ["microsoft/wavlm-large", "Qwen/Qwen2.5-1.5B"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next: ./run.sh --encoder {tmp_path}/microsoft/wavlm-large --llm {tmp_path}/Qwen/Qwen2.5-1.5B"


def test_a_config_without_models_on_the_hub_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    for text in ("frontend: logmel\n", "", f"decoder_conf: {{model: {tmp_path}}}\n"):
        config.write_text(text)
        with pytest.raises(ValueError, match="neither frontend_conf nor decoder_conf names a model on the Hub"):
            names_of(config)


def test_a_dry_run_lists_files_and_downloads_nothing(
    downloads: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path), "microsoft/wavlm-large", "--dry_run"])
    assert not downloads and not list(tmp_path.iterdir())
    assert "   1,262,000,000 bytes  pytorch_model.bin\n" in capsys.readouterr().out


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"neither model\.safetensors nor pytorch_model\.bin is among its files: tf_model\.h5"
    ):
        wanted(["tf_model.h5"])


def failing(error: Exception) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError, "a/b is gated: accept its licence at https://huggingface.co/a/b, create a token .* HF_TOKEN"),
        (RepositoryNotFoundError, "a/b: no such model on the Hub, or it is private and HF_TOKEN is not set"),
        (
            httpx2.ConnectError,
            r"a/b: the Hub cannot be reached \(Name or service not known\); run this on a machine with internet",
        ),
        (OfflineModeIsEnabled, "a/b: the Hub cannot be reached"),
    ],
)
def test_an_error_of_the_hub_is_reported_in_one_line(
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(HUB, "a/b", {"config.json": 1, "model.safetensors": 1})
    answer = {"response": httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co"))}
    options = answer if issubclass(error, RepositoryNotFoundError) else {}
    monkeypatch.setattr(fetch_models.HfApi, "model_info", failing(error("Name or service not known", **options)))
    with pytest.raises(SystemExit):
        main([str(tmp_path), "a/b"])
    printed = capsys.readouterr().err
    assert re.match(f"error: {message}", printed) and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model to download; give USER/NAME or --config TRAIN.yaml"),
        (["wavlm"], "'wavlm': expected USER/NAME, such as microsoft/wavlm-large"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file; correct the path"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), *arguments])
    assert capsys.readouterr().err.startswith(f"error: {message}")
