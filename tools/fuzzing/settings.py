"""Readers of YAML: configurations, the table of tasks, the specification of an ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzing.losses import lost_count, lost_yaml
from fuzzing.reader import Contents, Reader, damaged
from harmonifuse_espnet.ablation.spec import Ablation, read_ablation
from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.experiment import Experiment
from harmonifuse_espnet.common.text import read_text
from harmonifuse_espnet.common.yaml_file import check_strings, parse_yaml, read_yaml
from harmonifuse_espnet.data.tasks import load_tasks
from harmonifuse_espnet.inference.config_paths import read_train_config

CONFIG = (
    "# a comment\noptim: adamw\noptim_conf: {lr: 1e-3, betas: [0.9, 0.98]}\nmax_epoch: 20\nuse_amp: false\n",
    'model_conf:\n  word_dropout: 0.1\n  names:\n  - "a b"\n  - c\ninit_param:\n- exp/a/model.pth:ctc:ctc\n',
    "about: |\n  Text of\n  two lines.\nseed: 0\nempty:\nshared: &one {a: 1}\nother: *one\n",
)
TASKS = (
    "asr:\n  answer: text\n  prompts: [TRANSCRIBE THE SPEECH, WRITE IT DOWN]\n  held_out_prompts: [WRITE]\n",
    "ser:\n  answer: label\n  labels: {ang: ANGRY, sad: SAD}\n  prompts: [NAME THE EMOTION]\n"
    'gender:\n  answer: label\n  labels: [female, male]\n  prompts:\n  - "WHO?"\n',
)
ABLATION = """about: Text.
reference: ours
baselines: [naive]
test_sets: [test_asr, test_ser]
decode: [decode.yaml]
variants:
  ours: {config: train.yaml, seeds: 3, title: Ours}
  naive: {config: naive.yaml, seeds: 2, test_sets: [test_asr]}
  other: {config: naive.yaml}
"""


def _configs(folder: Path) -> Contents:
    (folder / "base.yaml").write_text("max_epoch: 10\nseed: 1\n")
    return {"train.yaml": [*(text.encode() for text in CONFIG), b"base: base.yaml\noptim: adam\nmax_epoch: 5\n"]}


def _lost_settings(name: str, text: str, config: dict[str, Any]) -> str:
    if "base" in text or not config:  # merged with another file
        return ""
    return lost_yaml(text, config)


def _ablation(folder: Path) -> Contents:
    for name in ("train", "naive", "decode"):
        (folder / f"{name}.yaml").write_text(f"name: {name}\n")
    return {"ablation.yaml": [ABLATION.encode()]}


def _lost_variants(name: str, text: str, ablation: Ablation) -> str:
    """Compare the variants with their keys in the file, which all begin a line."""
    if "{config: train.yaml, seeds: 3, title: Ours}" not in text or text.count("config:") != 3 or "#" in text:
        return ""  # a comment may hide a variant
    named = {ablation.reference, *ablation.baselines}
    equal = text.count("config: train.yaml") - sum(each.config == Path("train.yaml") for each in ablation.variants)
    return lost_count(3, len(ablation.variants) + equal, "variants") if named <= set(ablation.variants) else "a variant"


def _check_words(folder: Path) -> Any:
    text = read_text(folder / "a.yaml")
    value = parse_yaml(text, str(folder / "a.yaml"))
    check_strings(text, str(folder / "a.yaml"))
    return value


def _lost_values(name: str, text: str, value: Any) -> str:
    return lost_yaml(text, value)


def _lost_words(name: str, text: str, value: Any) -> str:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, (list, tuple)):
            left += each
        elif each is not None and not isinstance(each, str):
            return f"{each!r} is no text"
    return lost_yaml(text, value)


READERS = {
    "inference.config_paths.read_train_config": Reader(
        damaged(config__yaml=tuple("tokenizer: bpe\ntasks: {}\n" + text for text in CONFIG)),
        lambda folder: read_train_config(folder / "config.yaml"),
        _lost_values,
    ),
    "common.yaml_file.read_yaml": Reader(
        damaged(a__yaml=(*CONFIG, *TASKS)), lambda folder: read_yaml(folder / "a.yaml"), _lost_values
    ),
    "common.yaml_file.check_strings": Reader(damaged(a__yaml=TASKS), _check_words, _lost_words),
    "common.config.read_config": Reader(_configs, lambda folder: read_config(folder / "train.yaml"), _lost_settings),
    "common.experiment.read_config": Reader(
        damaged(config__yaml=CONFIG), lambda folder: Experiment(folder).read_config(), _lost_settings
    ),
    "data.tasks.load_tasks": Reader(
        damaged(tasks__yaml=TASKS), lambda folder: load_tasks(folder / "tasks.yaml"), _lost_values
    ),
    "ablation.spec.read_ablation": Reader(
        _ablation, lambda folder: read_ablation(folder / "ablation.yaml"), _lost_variants
    ),
}
