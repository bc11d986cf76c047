"""A recipe whose run.sh trains nothing: it creates the files of each stage, and records its calls.

The scores are copied from ``scores/<run>/<test set>``; ``FAIL`` is ``<run>:<stage>`` of a call that fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import yaml

from harmonifuse_espnet.evaluation.metrics import count_errors, label_scores, text_scores

RUN_SH = """#!/usr/bin/env bash
set -euo pipefail
echo "OMP=${OMP_NUM_THREADS:-} $*" >>calls
tag=none
while (($#)); do declare "${1#--}=$2"; shift 2; done
exp=$expdir/$tag
echo "stage $stage of $tag"
if [[ ${FAIL:-} == "${tag##*/}:$stage" ]]; then exit 3; fi
case $stage in
    1)
        for name in $test_sets; do mkdir -p "dump/raw/$name"; touch "dump/raw/$name/text"; done ;;
    6)
        mkdir -p "$exp"
        cp checkpoint.pth "$exp"
        echo 'max_epoch: 2' >"$exp/config.yaml"
        touch "$exp/valid.acc.ave.pth" ;;
    7)
        [[ $stop_stage == 8 && $inference_model == valid.acc.ave.pth ]]
        for name in $test_sets; do
            folder=$exp/decode_$inference_tag/$name
            mkdir -p "$folder"
            cp scores/"${tag##*/}/$name"/* "$folder"
        done
        touch "$results" ;;
esac
"""
ABLATION = {
    "about": "Runs of a test.",
    "reference": "ours",
    "baselines": ["asr_only", "naive"],
    "test_sets": ["test_asr", "test_ser"],
    "decode": ["conf/decode.yaml"],
    "variants": {
        "ours": {"config": "conf/train.yaml", "seeds": 2, "title": "Ours"},
        "asr_only": {"config": "conf/asr_only.yaml", "test_sets": ["test_asr", "dev_asr"]},
        "naive": {"config": "conf/naive.yaml", "seeds": 2, "title": "naive multi-task"},
        "same": {"config": "conf/same.yaml", "title": "a repetition"},
    },
}
# run -> errors in each of 40 utterances of ten words, and correct labels in each of 40 of two classes; both have ten
# speakers of four utterances
SCORES = {
    "ours_seed1": ([1, 0] * 20, [1, 1, 1, 0] * 10),
    "ours_seed2": ([1, 0, 0, 1] * 10, [1, 1, 0, 1] * 10),
    "asr_only_seed1": ([1] * 40, None),
    "naive_seed1": ([2, 1] * 20, [1, 0, 0, 0] * 10),
    "naive_seed2": ([1, 2] * 20, [0, 0, 1, 0] * 10),
    "same_seed1": ([0, 1] * 20, [1, 1, 1, 0] * 10),
}


def make_recipe(folder: Path) -> Path:
    """Fill a folder with the recipe and return it."""
    (folder / "conf").mkdir(parents=True)
    (folder / "run.sh").write_text(RUN_SH)
    (folder / "run.sh").chmod(0o755)
    write_config(folder, "ablation", ABLATION)
    write_config(folder, "decode", {"beam_size": 1})
    write_config(folder, "train", {"optim_conf": {"lr": 0.1}, "max_epoch": 2})
    for name in ("asr_only", "naive", "same"):
        write_config(folder, name, {"base": "train.yaml", "layer_weights": name})
    write_checkpoint(folder / "checkpoint.pth")
    for run, (errors, correct) in SCORES.items():
        write_scores(folder / "scores" / run, errors, correct)
    return folder


def write_config(folder: Path, name: str, content: Mapping[str, object]) -> None:
    """Write ``conf/<name>.yaml``."""
    (folder / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))


def write_checkpoint(path: Path, epochs: int = 2) -> None:
    """Write a checkpoint after epochs of 90 s of training and 30 s of validation."""
    epoch = {"train": {"time": timedelta(seconds=90), "total_count": 10}, "valid": {"time": timedelta(seconds=30)}}
    torch.save({"reporter": {"stats": dict.fromkeys(range(1, epochs + 1), epoch)}}, path)


def write_scores(folder: Path, errors: Sequence[int], correct: Sequence[int] | None) -> None:
    """Write the files of decoding and scoring: ten words in each utterance, labels ``ang`` and ``sad``."""
    asr = [
        {"id": f"a{index:02}", "task": "asr", "kind": "llm", "speaker": f"v{index % 10}", "errors": n, "words": 10}
        for index, n in enumerate(errors)
    ]
    scores = text_scores(count_errors({"a": "ONE TWO"}, {"a": "ONE TOO"}))
    _write_set(folder / "test_asr", asr, {"asr": {"answer": "text", "utterances": 1, "scores": {"llm": scores}}})
    if correct is not None:
        labels = ["ang", "ang", "sad", "sad"] * (len(correct) // 4)
        ser = [
            {"id": f"s{index:02}", "task": "ser", "kind": "llm", "speaker": f"v{index % 10}"}
            | {"label": label, "correct": bool(is_correct)}
            for index, (label, is_correct) in enumerate(zip(labels, correct, strict=True))
        ]
        scores = label_scores({"c": "ang", "d": "sad"}, {"c": "ang", "d": "ang"}, ["ang", "sad"])
        _write_set(folder / "test_ser", ser, {"ser": {"answer": "label", "utterances": 2, "scores": {"llm": scores}}})


def _write_set(folder: Path, entries: Sequence[Mapping[str, object]], tasks: Mapping[str, object]) -> None:
    folder.mkdir(parents=True)
    (folder / "utterances.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "score.json").write_text(json.dumps({"test_set": folder.name, "utterances": 1, "tasks": tasks}))
    counts = {"parameters": 1000, "trained_parameters": 900, "tasks": {}}
    (folder / "run.json").write_text(json.dumps({**counts, "audio_seconds": 50.0, "seconds": 10.0, "rtf": 0.2}))
