"""Wrong options, missing files and a missing GPU are reported in one line, before PyTorch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TABLE, Recipe

ROOT = Path(__file__).resolve().parents[2]
CALL = """
import contextlib, importlib, io, json, sys
from harmonifuse_espnet.common import gpu
gpu.DRIVERS = ("/absent",)
results = []
for command, words in json.load(sys.stdin):
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            importlib.import_module(f"harmonifuse_espnet.bin.{command}").main(words)
    except SystemExit as error:
        results.append((error.code, stderr.getvalue(), [name for name in ("torch", "espnet2") if name in sys.modules]))
    else:
        results.append((0, stderr.getvalue(), []))
json.dump(results, sys.stdout)
"""
DECODE = ["--train_config", "c.yaml", "--model_file", "m.pth", "--data_dir", "dump", "--out_dir", "out"]
NO_GPU = "--ngpu 1: this machine has no GPU (none of /absent exists); use --ngpu 0 to run on the CPU"
UNKNOWN = "--help lists all options"


def refusals(calls: list[tuple[str, list[str]]], folder: Path) -> list[str]:
    """Call commands in one process without PyTorch, and return their error messages."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options: dict[str, Any] = {"text": True, "capture_output": True, "timeout": 120, "env": environment, "cwd": folder}
    done = subprocess.run([sys.executable, "-c", CALL], input=json.dumps(calls), **options)
    assert done.returncode == 0, done.stderr
    messages = []
    for (command, words), (code, text, imported) in zip(calls, json.loads(done.stdout), strict=True):
        assert code in (1, 2) and not imported, (command, words, text, imported)
        assert text.startswith("error: ") and text.count("\n") == 1, text
        messages.append(text.removeprefix("error: ").rstrip("\n"))
    return messages


def test_commands_refuse_numbers_out_of_range_missing_files_and_a_missing_gpu(tmp_path: Path) -> None:
    (tmp_path / "decode.yaml").write_text("beam_size: two\n")
    for name in ("c.yaml", "m.pth"):
        (tmp_path / name).write_text("")
    cases = [
        ("decode", [*DECODE, "--batch_size", "0"], "--batch_size: 0 is out of range; expected a whole number from 1"),
        ("decode", [*DECODE, "--batch_size", "x"], "--batch_size: 'x' is not a whole number; expected a number from 1"),
        (
            "decode",
            [*DECODE, "--beam_size", "0"],
            "beam_size is 0, but must be an integer, 1 (greedy search) or more",
        ),
        (
            "decode",
            [*DECODE, "--ctc_weight", "2"],
            "ctc_weight is 2.0, but must be from 0 (the language model alone) to 1 (CTC alone)",
        ),
        (
            "decode",
            [*DECODE, "--length_penalty", "-1"],
            "length_penalty is -1.0, but must be 0 (sum of the token scores) or more, such as 1 (mean)",
        ),
        (
            "decode",
            [*DECODE, "--max_length_ratio", "0"],
            "max_length_ratio is 0.0, but must be above 0 tokens for each frame",
        ),
        (
            "decode",
            [*DECODE, "--ctc_weight", "nan"],
            "--ctc_weight: 'nan' is not a number; expected a number such as 0.5",
        ),
        ("decode", [*DECODE, "--generate", "3"], "--generate: '3' is not a mapping; expected '{key: value}'"),
        ("decode", [*DECODE, "--generate", "{num_beams: 3}"], "generate has num_beams: 3; set beam_size instead"),
        ("decode", [*DECODE, "--prompts", "new"], "--prompts is 'new', but must be one of: trained, held_out"),
        ("decode", [*DECODE, "--ngpu", "2"], "--ngpu: 2 is out of range; expected a whole number from 0 to 1"),
        ("decode", [*DECODE, "--ngpu", "1"], NO_GPU),
        (
            "decode",
            [*DECODE, "--config", "decode.yaml"],
            "decode.yaml: beam_size: 'two' is not a whole number; expected a number such as 3",
        ),
        (
            "decode",
            [*DECODE, "--beam", "3", "--beamsize", "3"],
            f"unknown option --beamsize; did you mean --beam_size? {UNKNOWN}",
        ),
        ("decode", [*DECODE, "--model_file", "none.pth"], "none.pth: no such file; stage 6 (training) creates it"),
        (
            "align",
            [*DECODE[:6], "--batch_size", "0"],
            "--batch_size: 0 is out of range; expected a whole number from 1",
        ),
        ("align", [*DECODE[:6], "--ngpu", "1"], NO_GPU),
        ("align", DECODE[:6], "dump/wav.scp: no such file; format_audio (stage 2) creates it"),
        (
            "align",
            [*DECODE[:6], "--train_config", "none.yaml"],
            "none.yaml: no such file; stage 5 with --pretrain_config creates it",
        ),
        ("extract_features", ["--feats_type", "fbank", *DECODE[4:8], "--ngpu", "1"], NO_GPU),
        (
            "extract_features",
            ["--feats_type", "fbank", *DECODE[4:8]],
            "dump/wav.scp: no such file; format_audio (stage 2) creates it",
        ),
        (
            "collect_stats",
            ["--n_mels", "0", *DECODE[4:8], "--tokenizer", "t", "--tasks", "t.yaml"],
            "--n_mels: 0 is out of range; expected a whole number from 1",
        ),
        (
            "collect_stats",
            ["--max_utterances", "0", *DECODE[4:8], "--tokenizer", "t", "--tasks", "t.yaml"],
            "--max_utterances: 0 is out of range; expected a whole number from 1",
        ),
        (
            "train_tokenizer",
            ["--vocab_size", "0", *DECODE[4:8], "--tasks", "t.yaml"],
            "--vocab_size: 0 is out of range; expected a whole number from 1",
        ),
        (
            "format_audio",
            ["a", "--out_dir", "b", "--nj", "0"],
            "--nj: 0 is out of range; expected a whole number from 1",
        ),
        (
            "format_audio",
            ["a", "--out_dir", "b", "--sample_rate", "16k"],
            "--sample_rate: '16k' is not a whole number; expected a number from 1",
        ),
        (
            "format_audio",
            ["a", "--out_dir", "b", "--min_duration", "-1"],
            "--min_duration: -1 is out of range; expected a number from 0",
        ),
        (
            "format_audio",
            ["a", "--out_dir", "b", "--max_duration", "0"],
            "--max_duration: 0 is out of range; expected a number above 0",
        ),
    ]
    found = refusals([(command, words) for command, words, _ in cases], tmp_path)
    assert found == [message for _, _, message in cases]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("recipe"))


def test_training_refuses_wrong_options_configurations_and_missing_files(recipe: Recipe, tmp_path: Path) -> None:
    base = recipe.train_command("exp")
    folder = recipe.folder
    train = "--train_data_path_and_name_and_type"

    def with_config(number: int, config: dict[str, Any]) -> list[str]:
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(config))
        return [*base, "--config", str(tmp_path / f"{number}.yaml")]

    def without(*words: str) -> list[str]:
        """The command without these options and their values."""
        pairs = zip(base[::2], base[1::2], strict=True)
        return [word for option, value in pairs if option not in words for word in (option, value)]

    (tmp_path / "bad_tasks.yaml").write_text(yaml.safe_dump({**TABLE, "asr": {"answer": "words", "prompts": ["A"]}}))
    (tmp_path / "cut.pth").write_bytes(b"PK\3\4")
    (tmp_path / "a:b.pth").write_bytes(b"PK\3\4")
    number = "'x' is not a whole number; expected a number from 1"
    cases = [
        ([*base, "--max_epoch", "x"], f"--max_epoch: {number}"),
        ([*base, "--max_epochs", "3"], f"unknown option --max_epochs; did you mean --max_epoch? {UNKNOWN}"),
        ([*base, "--batch_size", "0"], "--batch_size: 0 is out of range; expected a whole number from 1"),
        ([*base, "--ngpu", "-1"], "--ngpu: -1 is out of range; expected a whole number from 0"),
        ([*base, "--ngpu", "1"], NO_GPU),
        ([*base, "--use_amp", "maybe"], "--use_amp: 'maybe' is not true or false"),
        ([*base, "--optim_conf", "lr"], "--optim_conf: 'lr' has no value; expected key=value or '{key: value}'"),
        (
            [*base, "--optim_groups", "[{match: x]"],
            "--optim_groups: '[{match: x]':1: not valid YAML: expected ',' or '}', but got ']'; correct it",
        ),
        (
            [*base, "--best_model_criterion", "acc"],
            "--best_model_criterion: 'acc' is not three values separated by commas",
        ),
        (with_config(1, {"max_epochs": 3}), f"{tmp_path}/1.yaml: unknown options: max_epochs; {UNKNOWN}"),
        (with_config(2, {"max_epoch": "x"}), f"{tmp_path}/2.yaml: max_epoch: {number}"),
        (
            with_config(3, {"optim_conf": [1]}),
            f"{tmp_path}/3.yaml: optim_conf: [1] is not a mapping; expected '{{key: value}}'",
        ),
        (
            with_config(4, {"task_order": "random"}),
            f"{tmp_path}/4.yaml: task_order: 'random' is unknown; expected one of: interleaved, sequential, mixed",
        ),
        (
            with_config(5, {"best_model_criterion": ["valid", "acc", "max"]}),
            f"{tmp_path}/5.yaml: best_model_criterion: 'valid' is not three values separated by commas",
        ),
        (
            with_config(6, {"max_epoch": None}),
            f"{tmp_path}/6.yaml: max_epoch: null is no value of this option; remove the line to use the default",
        ),
        ([], "required options are missing: --output_dir, --tasks, --tokenizer"),
        (without("--tokenizer"), "required options are missing: --tokenizer"),
        (
            without(train),
            f"{train} has the names none; expected one entry path,name,type for each of speech, text, task",
        ),
        (
            [*base, train, f"{folder}/train/utt2spk,spk,text"],
            f"{train} has the names speech, text, task, spk; expected one entry path,name,type for each of speech, "
            "text, task",
        ),
        (
            without("--valid_shape_file"),
            "--valid_shape_file is given 0 times; expected speech_shape and text_shape of stage 5",
        ),
        (
            [*base, "--tasks", "none.yaml"],
            "--tasks: none.yaml: no such file; give the table of tasks (conf/tasks.yaml)",
        ),
        (
            [*base, "--tasks", str(tmp_path / "bad_tasks.yaml")],
            f"--tasks: {tmp_path}/bad_tasks.yaml: task 'asr' has answer: 'words'; expected text or label",
        ),
        (
            [*base, "--tokenizer", str(tmp_path)],
            f"{tmp_path}: no tokenizer in this folder, neither bpe.model nor tokenizer_config.json; train_tokenizer "
            "(stage 4) creates it",
        ),
        ([*base, "--feats_stats", "none.npz"], "none.npz: no such statistics file; stage 5 creates it"),
        (
            [*base, "--init_param", "none.pth:frontend:frontend"],
            "--init_param none.pth:frontend:frontend: none.pth: no such file; correct the path, or train that model "
            "first",
        ),
        (
            [*base, "--init_param", f"{tmp_path}/a:b.pth:frontend"],
            f"--init_param {tmp_path}/a:b.pth:frontend: the path has a colon, but colons separate the path from the "
            "names of parameters; give a path without one, such as that of a symbolic link",
        ),
        (
            [*base, "--init_param", f"{tmp_path}/cut.pth"],
            f"--init_param: {tmp_path}/cut.pth (4 bytes) is truncated or not a checkpoint of PyTorch; restore it or "
            "give another one",
        ),
        (
            [word.replace("train/text,text", "train/none,text") for word in base],
            f"{folder}/train/none: no such file; prepare the data again: stage 2 creates it, stage 3 that of features",
        ),
        (
            [word.replace("stats/valid/text_shape", "stats/valid/none") for word in base],
            f"{folder}/stats/valid/none: no such file; collect_stats (stage 5) creates it",
        ),
        (
            [word.replace("speech,sound", "speech,npy") for word in base],
            f"{train} {folder}/train/wav.scp,speech,npy: the type of speech must be sound or kaldi_ark",
        ),
    ]
    found = refusals([("train", words) for words, _ in cases], tmp_path)
    assert found == [message for _, message in cases]
    plan = [*base, "--ngpu", "1", "--steps_measured", "2"]
    found = refusals([("plan", plan), ("plan", [*base, "--device_memory", "much"])], tmp_path)
    assert found == [NO_GPU, "--device_memory: 'much' is not a size; expected a number of bytes such as 80GB"]
    (config,) = refusals([("train", ["--config", "none.yaml"])], tmp_path)
    assert config.startswith("none.yaml: no such ") and config.endswith("correct the path")


def test_damaged_checkpoints_are_refused_before_pytorch_is_imported(recipe: Recipe) -> None:
    folder = recipe.folder / "damaged"
    folder.mkdir()
    (folder / "checkpoint.pth").write_bytes(b"PK\3\4" + bytes(996))
    command = [*recipe.train_command("damaged"), "--resume", "true"]
    (message,) = refusals([("train", command)], recipe.folder)
    assert message == (
        f"{folder}/checkpoint.pth: truncated or not a checkpoint (1,000 bytes), so training cannot be resumed; restore "
        "it from a backup, or train again: with --fresh true, or in another folder (in run.sh: --tag)"
    )
