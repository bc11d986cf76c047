"""The patches of CONTRIBUTING.md apply to this code, and what they add works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.schedule import TaskBatches, build_pattern

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import sys
from pathlib import Path
from tiny import Recipe

config = {"frontend": "gru", "frontend_conf": {"n_mels": 12, "hidden_size": 16, "num_layers": 2}}
print(Recipe(Path(sys.argv[1])).train("exp", config))
"""


def patches(heading: str) -> list[str]:
    """The diff blocks of a section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```diff\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


class Clone:
    """A copy of parts of the repository, to which patches are applied.

    Args:
        folder: Where it is created.
        parts: Files and folders to copy.
    """

    def __init__(self, folder: Path, *parts: str) -> None:
        self.root = folder / "clone"
        skip = shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "downloads", "images", "RESULTS*.md")
        for part in parts:
            source, target = ROOT / part, self.root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                # the package has a folder data of its own
                ignore = shutil.ignore_patterns("__pycache__") if "egs2" not in part else skip
                shutil.copytree(source, target, symlinks=True, ignore=ignore)
            else:
                shutil.copy(source, target)
        self.run("git", "init", "--quiet")

    def run(self, *command: str, **variables: str) -> str:
        """Run a command in the clone, with its modules before the repository's, and return its output."""
        modules = [self.root, self.root / "test", self.root / "tools", ROOT, ROOT / "test", ROOT / "tools"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, modules)), "OMP_NUM_THREADS": "1"}
        environment |= variables
        done = subprocess.run(command, cwd=self.root, env=environment, text=True, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, *arguments: str) -> str:
        """Run Python in the clone."""
        return self.run(sys.executable, *arguments)

    def apply(self, heading: str) -> list[str]:
        """Apply the patches of a section; returns the files that they change or add."""
        for number, patch in enumerate(patches(heading)):
            path = self.root / f"{number}.patch"
            path.write_text(patch, encoding="utf-8")
            self.run("git", "apply", path.name)
        return re.findall(r"^\+\+\+ b/(.*)$", "".join(patches(heading)), re.MULTILINE)

    def lint(self, files: list[str]) -> None:
        """Check the Python files as the linters do."""
        python = [file for file in files if file.endswith(".py")]
        assert python
        self.python("-m", "ruff", "format", "--check", "--config", "tools/ruff.toml", *python)
        self.python("-m", "ruff", "check", "--config", "tools/ruff.toml", *python)

    def test(self, *files: str) -> None:
        """Run tests of the clone and examples of its modules."""
        settings = ["-c", "tools/pytest.ini", "--rootdir", ".", "-n", "0", "-q", "-p", "no:cacheprovider"]
        self.python("-m", "pytest", *settings, "--doctest-modules", *files)


PACKAGE = ("harmonifuse_espnet", "tools/ruff.toml", "tools/pytest.ini", "test/encoders.py", "test/tiny.py")


def write_an4(root: Path) -> None:
    """A corpus in AN4's layout: 104 training and 2 test utterances of a second."""
    (root / "etc").mkdir(parents=True)
    for part, count in (("train", 104), ("test", 2)):
        files = [f"an4_clstk/fash/an{100 + number}-fash-b" for number in range(count)]
        for number, file in enumerate(files):
            path = root / "wav" / f"{file}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 16000), 16000)
        (root / f"etc/an4_{part}.fileids").write_text("".join(f"{file}\n" for file in files))
        words = "".join(f"<s> YES NO </s> ({file.split('/')[-1]})\n" for file in files)
        (root / f"etc/an4_{part}.transcription").write_text(words)


def write_crema_d(root: Path) -> None:
    """A corpus in CREMA-D's layout: twelve actors in four emotions, a second each."""
    (root / "AudioWAV").mkdir(parents=True)
    for actor in range(1001, 1013):
        for emotion in ("ANG", "HAP", "NEU", "SAD"):
            samples = np.random.default_rng(actor).normal(0, 0.1, 16000)
            soundfile.write(root / "AudioWAV" / f"{actor}_DFA_{emotion}_XX.wav", samples, 16000)
    rows = "".join(f"{actor},51,{'Female' if actor % 2 else 'Male'}\n" for actor in range(1001, 1013))
    (root / "VideoDemographics.csv").write_text(f"ActorID,Age,Sex\n{rows}")


def test_a_task_is_prepared_and_its_statistics_are_collected(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "egs2/TEMPLATE", "egs2/an4_crema_d")
    clone.apply("Add a task")
    write_an4(tmp_path / "an4")
    write_crema_d(tmp_path / "crema_d")
    recipe = clone.root / "egs2/an4_crema_d/slm1"
    corpora = {"AN4": str(tmp_path / "an4"), "CREMA_D": str(tmp_path / "crema_d"), "PYTHON": sys.executable}
    options = ("--stop_stage", "5", "--pretrain_config", "", "--tokenizer_type", "char")
    clone.run(str(recipe / "run.sh"), *options, **corpora)
    tasks = read_table(recipe / "dump/raw/train/utt2task")
    lengths = read_table(recipe / "exp/stats_raw_char/train/speech_shape")
    text = read_table(recipe / "dump/raw/train/text")
    gender = [key for key, task in tasks.items() if task == "gender"]
    assert {text[key] for key in gender} == {"female", "male"}
    assert set(gender) <= set(lengths) and all(key.endswith("-gender") for key in gender)
    streams = {name: TaskBatches([(name,)], 0) for name in ("asr", "ser", "gender")}
    assert build_pattern(read_config(recipe / "conf/train.yaml")["task_pattern"], streams) == list(streams)
    assert build_pattern(read_config(recipe / "conf/train_encoder.yaml")["task_pattern"], streams) == ["asr"]


def test_a_corpus_is_prepared_by_its_command(tmp_path: Path) -> None:
    clone = Clone(tmp_path, *PACKAGE)
    files = clone.apply("Add a corpus")
    clone.lint(files)
    clone.test(*(file for file in files if file.startswith("test/")))
    for name in ("03-01-05-01-02-01-12", "03-01-03-01-02-01-18", "03-01-01-01-02-01-24", "03-01-08-01-02-01-12"):
        folder = tmp_path / "RAVDESS" / f"Actor_{name[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").touch()
    command = [
        "-m",
        "harmonifuse_espnet.bin.prepare_data",
        "ravdess",
        str(tmp_path / "RAVDESS"),
        str(tmp_path / "data"),
    ]
    summary = clone.python(*command, "--set_names", "train=train_ravdess")
    assert f"{tmp_path}/data/train_ravdess: 1 utterances, 1 speakers, task ser, ang 1" in summary
    assert read_table(tmp_path / "data/dev/text") == {"03-01-03-01-02-01-18": "hap"}


def test_an_encoder_is_built_by_the_task_and_trained(tmp_path: Path) -> None:
    clone = Clone(tmp_path, *PACKAGE)
    files = clone.apply("Add an encoder")
    clone.lint(files)
    clone.test(*(file for file in files if file.startswith("test/") or "encoders/" in file))
    folder = tmp_path / "recipe"
    folder.mkdir()
    experiment = Path(clone.python("-c", TRAIN, str(folder)).splitlines()[-1])
    assert "frontend: gru" in (experiment / "config.yaml").read_text()
    assert (experiment / "1epoch.pth").is_file()


@pytest.mark.parametrize("heading", ["Add a task", "Add a corpus", "Add an encoder"])
def test_the_patches_add_only_new_files(heading: str) -> None:
    (patch,) = patches(heading)
    for path in re.findall(r"^--- /dev/null\n\+\+\+ b/(.*)$", patch, re.MULTILINE):
        assert not (ROOT / path).exists()
