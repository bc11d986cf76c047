"""The section "A recipe for your own corpora" of docs/recipes.md, step by step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from harmonifuse_espnet.evaluation.scores import read_scores

ROOT = Path(__file__).resolve().parents[2]
SETS = "train_asr train_gender dev_asr dev_gender test_asr test_gender"
DATA_SH = f"""#!/usr/bin/env bash
set -euo pipefail
exec "{sys.executable}" local/write_data.py "$2"
"""
WRITE_DATA = f"""
import sys
from pathlib import Path

import numpy as np
import soundfile

random = np.random.default_rng(0)
for name in "{SETS}".split():
    folder, task = Path(sys.argv[1]) / name, name.partition("_")[2]
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    tables = {{table: [] for table in ("wav.scp", "text", "utt2spk", "spk2utt", "utt2task")}}
    for index in range(16):
        utterance, audio = f"{{name}}-{{index:02d}}", folder / "wav" / f"{{index}}.wav"
        soundfile.write(audio, 0.1 * random.standard_normal(8000 + 200 * index), 16000)
        text = "fm"[index % 2] if task == "gender" else " ".join(random.choice(["one", "two", "three"], 3))
        values = (audio.resolve(), text, utterance, utterance, task)
        for table, value in zip(tables.values(), values):
            table.append(f"{{utterance}} {{value}}\\n")
    for table, lines in tables.items():
        (folder / table).write_text("".join(lines))
"""
TASKS = {
    "asr": {"answer": "text", "prompts": ["WRITE THE WORDS"]},
    "gender": {"answer": "label", "labels": {"f": "FEMALE", "m": "MALE"}, "prompts": ["NAME THE GENDER"]},
}
SMALL = "--num_iters_per_epoch 3 --max_epoch 1 --num_workers 0 --scheduler_conf total_steps=3"


def run(folder: Path, *options: str) -> None:
    done = subprocess.run(
        ["./run.sh", *options],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def test_a_recipe_for_own_corpora(tmp_path: Path) -> None:
    section = (ROOT / "docs/recipes.md").read_text(encoding="utf-8").split("## A recipe for your own corpora\n")[1]
    commands = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert commands
    for name in ("TEMPLATE", "mini"):
        shutil.copytree(ROOT / "egs2" / name, tmp_path / "egs2" / name, symlinks=True)
    subprocess.run(["bash", "-euc", commands[1]], cwd=tmp_path, check=True)
    recipe = tmp_path / "egs2/mine/slm1"
    remaining = sorted(path.name for path in recipe.iterdir())
    assert remaining == ["cmd.sh", "conf", "db.sh", "local", "path.sh", "run.sh", "slm.sh", "utils"]

    (recipe / "local/data.sh").write_text(DATA_SH)
    (recipe / "local/write_data.py").write_text(WRITE_DATA)
    run_sh = (recipe / "run.sh").read_text()
    for kind, prefix in (("train", "train"), ("valid", "dev"), ("test", "test")):
        run_sh, count = re.subn(f'--{kind}_sets ".*?"', f'--{kind}_sets "{prefix}_asr {prefix}_gender"', run_sh)
        assert count == 1
    (recipe / "run.sh").write_text(run_sh)
    (recipe / "conf/tasks.yaml").write_text(yaml.safe_dump(TASKS))
    train = (recipe / "conf/train.yaml").read_text()
    (recipe / "conf/train.yaml").write_text(re.sub(r"\bser: ", "gender: ", train))

    sizes = ("--tokenizer_type", "char", "--ctc_tokenizer_type", "", "--nproc", "1", "--train_args", SMALL)
    run(recipe, *sizes, "--stop_stage", "5")
    run(recipe, *sizes, "--stage", "6")
    (experiment,) = recipe.glob("exp/*/config.yaml")
    tasks = {(scored.folder.test_set, *scored.tasks) for scored in read_scores(experiment.parent)}
    assert tasks == {("test_asr", "asr"), ("test_gender", "gender")}
