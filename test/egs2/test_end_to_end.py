"""The large recipes run from the corpora to a packed model, on synthetic corpora and small random models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from make_synthetic_data import make_synthetic_data

from harmonifuse_espnet.inference.speech2text import Speech2Text

ROOT = Path(__file__).resolve().parents[2]
SUBSETS = ("train-clean-100=60", "dev-clean=12", "dev-other=12", "test-clean=12", "test-other=12")
SIZES = {
    "--ctc_vocab_size": "50",
    "--train_args": "--num_iters_per_epoch 10 --max_epoch 2 --num_workers 0 --gate_size 32",
    "--nj": "2",
}


@pytest.fixture(scope="module")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic corpora and randomly initialised models in the formats of the real ones."""
    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic_data(folder, ["iemocap", "librispeech", "models"], (0.4, 1.0), 0, 300, SUBSETS)
    return folder


def run(recipe: str, synthetic_data: Path, folder: Path, *options: str) -> Path:
    """Run a recipe in a copy of its folder, and return the copy."""
    for name in ("TEMPLATE", recipe):
        skip = shutil.ignore_patterns("data", "dump", "exp", "downloads", "images", "RESULTS.md")
        shutil.copytree(ROOT / "egs2" / name, folder / "egs2" / name, symlinks=True, ignore=skip, dirs_exist_ok=True)
    corpora = {
        "LIBRISPEECH": str(synthetic_data / "LibriSpeech"),
        "IEMOCAP": str(synthetic_data / "IEMOCAP_full_release"),
    }
    models = ["--encoder", str(synthetic_data / "models" / "wavlm"), "--llm", str(synthetic_data / "models" / "qwen2")]
    sizes = [word for option in SIZES.items() for word in option]
    done = subprocess.run(
        [str(folder / "egs2" / recipe / "slm1" / "run.sh"), *models, *sizes, *options],
        env=os.environ | corpora | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return folder / "egs2" / recipe / "slm1"


def test_the_paper_s_recipe(synthetic_data: Path, tmp_path: Path) -> None:
    counts = ("--local_data_opts", "--check_counts false")
    recipe = run("librispeech_iemocap", synthetic_data, tmp_path, *counts, "--tag", "slm")
    exp = recipe / "exp" / "train_clean_100_superb_fold1" / "slm"
    results = (recipe / "RESULTS.md").read_text()
    for row in ("test_clean (asr, llm)|12|", "test_other (asr, ctc)|12|", "test_iemocap (ser)|"):
        assert f"|decode_valid.acc.ave/{row}" in results
    committed = yaml.safe_load((recipe / "conf" / "train.yaml").read_text())
    trained = yaml.safe_load((exp / "config.yaml").read_text())
    replaced = {"frontend_conf", "decoder_conf", "num_iters_per_epoch", "max_epoch", "num_workers", "gate_size"}
    replaced |= {"optim_conf"}  # ESPnet completes the optimizer's options
    assert {name: trained[name] for name in committed if name not in replaced} == {
        name: value for name, value in committed.items() if name not in replaced
    }
    assert committed["decoder_conf"]["lora"].items() <= trained["decoder_conf"]["lora"].items()
    weights = torch.load(exp / "valid.acc.ave.pth")
    frozen = [name for name in weights if name.startswith(("frontend.", "decoder.")) and "lora_" not in name]
    assert frozen == []
    model = Speech2Text.from_pretrained(exp / "model.zip")
    wav = next((synthetic_data / "LibriSpeech" / "test-clean").rglob("*.flac"))
    samples, _ = soundfile.read(wav, dtype="float32")
    assert isinstance(model(samples, task="asr").text, str)
    assert sum(model(wav, task="ser").label_probs.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("recipe", ["iemocap", "librispeech_iemocap"])
@pytest.mark.parametrize("protocol", ["emobox", "loso10", "espnet"])
def test_the_data_of_every_protocol_are_prepared(
    recipe: str, protocol: str, synthetic_data: Path, tmp_path: Path
) -> None:
    counts = ("--local_data_opts", "--check_counts false") if recipe != "iemocap" else ()
    folder = run(recipe, synthetic_data, tmp_path, *counts, "--protocol", protocol, "--stop_stage", "2")
    (valid,) = folder.glob("dump/*/raw/valid/text")
    assert valid.stat().st_size > 0


def test_both_tasks_of_iemocap_are_prepared_for_one_training(synthetic_data: Path, tmp_path: Path) -> None:
    recipe = run("iemocap", synthetic_data, tmp_path, "--train_tasks", "ser asr", "--stop_stage", "5")
    tasks = (recipe / "dump/ser_asr_4_superb_fold1/raw/train/utt2task").read_text()
    assert " ser\n" in tasks and " asr\n" in tasks
    text = (recipe / "dump/ser_asr_4_superb_fold1/raw/test_asr/text").read_text()
    assert all(line.partition(" ")[2].islower() for line in text.splitlines())


def test_the_speech_recognition_recipe(synthetic_data: Path, tmp_path: Path) -> None:
    recipe = run(
        "librispeech", synthetic_data, tmp_path, "--local_data_opts", "--check_counts false", "--stop_stage", "8"
    )
    results = (recipe / "RESULTS.md").read_text()
    assert "/test_clean (asr, llm)|12|" in results and "(ser)" not in results


def test_folds_of_the_emotion_recognition_recipe(synthetic_data: Path, tmp_path: Path) -> None:
    recipe = run("iemocap", synthetic_data, tmp_path, "--folds", "1 2", "--stop_stage", "8")
    results = (recipe / "RESULTS.md").read_text()
    assert "## Mean of 2 folds\n" in results and "(asr" not in results
    assert "\n## exp/ser_4_superb_fold1/" in results and "\n## exp/ser_4_superb_fold2/" in results
