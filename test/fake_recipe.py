"""A recipe whose run.sh trains nothing: it leaves what the stages would leave, and writes down how it was called.

Answers come from ``answers/<run>/<test set>/utterances.jsonl``; ``FAIL`` is ``<run>:<stage>`` of a call to fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import yaml

from harmonifuse_espnet.evaluation.metrics import label_scores, text_scores

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
            cp answers/"${tag##*/}/$name"/* "$folder"
        done
        touch "$results" ;;
esac
"""
ABLATION = {
    "about": "Runs that were never made.",
    "reference": "ours",
    "baselines": ["asr_only", "naive"],
    "test_sets": ["test_asr", "test_ser"],
    "decode": ["conf/decode.yaml"],
    "variants": {
        "ours": {"config": "conf/train.yaml", "seeds": 2, "title": "Ours"},
        "asr_only": {"config": "conf/asr_only.yaml", "test_sets": ["test_asr", "dev_asr"]},
        "naive": {"config": "conf/naive.yaml", "seeds": 2, "title": "naive multi-task"},
        "same": {"config": "conf/same.yaml", "title": "the same again"},
    },
}
# run -> errors in each of 40 utterances of ten words, and right labels in each of 40 of two classes
ANSWERS = {
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
    for run, (errors, right) in ANSWERS.items():
        write_answers(folder / "answers" / run, errors, right)
    return folder


def write_config(folder: Path, name: str, content: Mapping[str, object]) -> None:
    """Write ``conf/<name>.yaml``."""
    (folder / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))


def write_checkpoint(path: Path, epochs: int = 2) -> None:
    """A checkpoint after epochs of 90 s of training and 30 s of validation."""
    epoch = {"train": {"time": timedelta(seconds=90), "total_count": 10}, "valid": {"time": timedelta(seconds=30)}}
    torch.save({"reporter": {"stats": dict.fromkeys(range(1, epochs + 1), epoch)}}, path)


def write_answers(folder: Path, errors: Sequence[int], right: Sequence[int] | None) -> None:
    """What decoding and scoring leave: ten words an utterance, labels ``ang`` and ``sad`` in turn."""
    asr = [
        {"id": f"a{index:02}", "task": "asr", "kind": "llm", "errors": n, "words": 10} for index, n in enumerate(errors)
    ]
    scores = text_scores({"a": "ONE TWO"}, {"a": "ONE TOO"})
    _write_set(folder / "test_asr", asr, {"asr": {"answer": "text", "utterances": 1, "scores": {"llm": scores}}})
    if right is not None:
        labels = ["ang", "ang", "sad", "sad"] * (len(right) // 4)
        ser = [
            {"id": f"s{index:02}", "task": "ser", "kind": "llm", "label": label, "right": bool(good)}
            for index, (label, good) in enumerate(zip(labels, right, strict=True))
        ]
        scores = label_scores({"c": "ang", "d": "sad"}, {"c": "ang", "d": "ang"}, ["ang", "sad"])
        _write_set(folder / "test_ser", ser, {"ser": {"answer": "label", "utterances": 2, "scores": {"llm": scores}}})


def _write_set(folder: Path, entries: Sequence[Mapping[str, object]], tasks: Mapping[str, object]) -> None:
    folder.mkdir(parents=True)
    (folder / "utterances.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "score.json").write_text(json.dumps({"test_set": folder.name, "utterances": 1, "tasks": tasks}))
    (folder / "selection.json").write_text(json.dumps({"parameters": 1000, "trained_parameters": 900, "tasks": {}}))
    (folder / "speed.json").write_text(json.dumps({"audio_seconds": 50.0, "seconds": 10.0, "rtf": 0.2}))
