"""Configurations with a base: merging, parsing as options, and errors."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harmonifuse_espnet.common.config import merge, parse_with_config, read_config

BASE = "max_epoch: 3\noptim_conf: {lr: 0.1, fused: true}\nspeeds: {asr: [0.9, 1.0]}\n"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A folder conf/ with a base, and in conf/tuning/ a configuration that extends it."""
    (tmp_path / "conf/tuning").mkdir(parents=True)
    (tmp_path / "conf/train.yaml").write_text(BASE)
    (tmp_path / "conf/tuning/low.yaml").write_text("base: ../train.yaml\noptim_conf: {lr: 0.2}\nspeeds: {asr: [1.1]}\n")
    return tmp_path / "conf"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--max_epoch", type=int, default=1)
    parser.add_argument("--optim_conf", default={})
    parser.add_argument("--speeds", default={})
    parser.add_argument("--gate", type=lambda word: None if word == "none" else word, default="prompt")
    return parser


def test_mappings_are_merged_and_other_values_replaced(conf: Path) -> None:
    expected = {"max_epoch": 3, "optim_conf": {"lr": 0.2, "fused": True}, "speeds": {"asr": [1.1]}}
    assert read_config(conf / "tuning/low.yaml") == expected
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2} and merge({"a": 2}, {"a": {"b": 1}}) == {"a": {"b": 1}}
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}} and base == {"a": {"b": 1}}


def test_a_base_may_have_a_base(conf: Path) -> None:
    (conf / "tuning/lower.yaml").write_text("base: low.yaml\nmax_epoch: 9\n")
    assert read_config(conf / "tuning/lower.yaml") == {**read_config(conf / "tuning/low.yaml"), "max_epoch": 9}


def test_the_base_of_a_linked_folder_is_looked_up_beside_the_link(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = conf.parent / "other"
    other.mkdir()
    (other / "train.yaml").write_text("max_epoch: 7\n")
    (other / "tuning").symlink_to("../conf/tuning")
    assert read_config(other / "tuning/low.yaml")["max_epoch"] == 7
    monkeypatch.chdir(other)
    assert read_config("tuning/low.yaml")["max_epoch"] == read_config("./tuning/../tuning/low.yaml")["max_epoch"] == 7


def test_an_empty_configuration_has_no_options(conf: Path) -> None:
    (conf / "train.yaml").write_text("# nothing yet\n")
    assert read_config(conf / "train.yaml") == {}
    assert read_config(conf / "tuning/low.yaml") == {"optim_conf": {"lr": 0.2}, "speeds": {"asr": [1.1]}}


def test_errors_name_the_configuration(conf: Path) -> None:
    low = conf / "tuning/low.yaml"
    low.write_text("base: ../absent.yaml\n")
    with pytest.raises(
        FileNotFoundError, match=r"conf/absent.yaml: no such file; it is the base of .*low.yaml; correct the path"
    ):
        read_config(low)
    with pytest.raises(FileNotFoundError, match=r"none.yaml: no such file; correct the path"):
        read_config(conf / "none.yaml")
    low.write_text("base: ../train.yaml\n")
    (conf / "train.yaml").write_text("base: tuning/low.yaml\n")
    with pytest.raises(ValueError, match=r"low.yaml: circular base: .*low.yaml -> .*train.yaml -> .*low"):
        read_config(low)
    (conf / "train.yaml").write_text("- max_epoch: 3\n")
    with pytest.raises(ValueError, match=r"train.yaml: a configuration must be a mapping of options to values, got \["):
        read_config(low)
    (conf / "train.yaml").write_text("max_epoch: [3\n")
    with pytest.raises(ValueError, match=r"train.yaml:\d+: not valid YAML: "):
        read_config(low)
    low.write_text("base: [../train.yaml]\n")
    with pytest.raises(ValueError, match=r"low.yaml: base must be the path of one configuration, got \['../train.yaml"):
        read_config(low)


def test_options_override_the_configuration_and_that_overrides_defaults(conf: Path) -> None:
    low = str(conf / "tuning/low.yaml")
    args = parse_with_config(make_parser(), ["--config", low])
    assert (args.config, args.max_epoch, args.optim_conf, args.gate) == (low, 3, {"lr": 0.2, "fused": True}, "prompt")
    assert parse_with_config(make_parser(), ["--max_epoch", "5", f"--config={low}"]).max_epoch == 5
    assert parse_with_config(make_parser(), ["--max_epoch", "5"]).config is None
    (conf / "tuning/low.yaml").write_text("gate: none\n")
    assert parse_with_config(make_parser(), ["--config", low]).gate is None  # parsed as on the command line


def test_an_unknown_key_is_named_with_its_file(conf: Path) -> None:
    (conf / "train.yaml").write_text("max_epochs: 3\n")
    with pytest.raises(ValueError, match=r"tuning/low.yaml: unknown options: max_epochs; --help lists"):
        parse_with_config(make_parser(), ["--config", str(conf / "tuning/low.yaml")])


def test_reading_a_configuration_imports_neither_espnet_nor_torch() -> None:
    command = "import sys, harmonifuse_espnet.common.config; sys.exit({'torch', 'espnet2'} & set(sys.modules) != set())"
    root = str(Path(__file__).resolve().parents[2])
    assert subprocess.run([sys.executable, "-c", command], env={**os.environ, "PYTHONPATH": root}).returncode == 0
