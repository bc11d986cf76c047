"""Specification of an ablation, ``conf/ablation.yaml``: variants of a training configuration and their reference.

Example::

    about: Text for RESULTS.md.     # optional
    reference: harmonifuse          # every variant is compared with this one
    baselines: [asr_only, naive]    # the other variants change one part of the reference
    test_sets: [test_an4, test_crema_d]
    decode: [conf/decode.yaml]
    variants:
      harmonifuse: {config: conf/train.yaml, seeds: 3, title: HarmoniFuse}
      asr_only: {config: conf/tuning/asr_only.yaml, seeds: 3, test_sets: [test_an4]}
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import DecodeDir, Experiment
from harmonifuse_espnet.common.text import check_name, quote

MODEL = "valid.acc.ave.pth"  # model file to decode with
KEYS = {"reference", "baselines", "test_sets", "decode", "variants"}
VARIANT_KEYS = {"config", "seeds", "title", "test_sets"}


@dataclass(frozen=True)
class Variant:
    """One training configuration.

    Attributes:
        name: Name; its runs are called ``<name>_seed<k>``.
        seeds: Number of training runs, with the seeds 1, 2, ...
        title: Name in tables.
    """

    name: str
    config: Path
    seeds: int
    title: str
    test_sets: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training run of a variant, in ``exp_dir``, with its decoded and scored test sets."""

    variant: Variant
    seed: int
    exp_dir: Path

    @property
    def name(self) -> str:
        return f"{self.variant.name} seed {self.seed}"

    @property
    def experiment(self) -> Experiment:
        return Experiment(self.exp_dir)

    def decode_dir(self, decode: Path, test_set: str) -> DecodeDir:
        """Return the folder of a test set decoded with a configuration."""
        return self.experiment.decode_dir(decode_tag(decode), test_set)


@dataclass(frozen=True)
class Ablation:
    """An ablation; the attributes are the keys of ``conf/ablation.yaml``."""

    reference: Variant
    baselines: tuple[Variant, ...]
    test_sets: tuple[str, ...]
    decode: tuple[Path, ...]
    variants: tuple[Variant, ...]
    about: str = ""

    def runs(self, expdir: Path) -> list[Run]:
        """Return all runs, sorted by seed, so that variants have equal numbers of seeds while runs are missing."""
        max_seeds = max(variant.seeds for variant in self.variants)
        return [
            Run(variant, seed, expdir / f"{variant.name}_seed{seed}")
            for seed in range(1, max_seeds + 1)
            for variant in self.variants
            if seed <= variant.seeds
        ]

    def check_names(self, names: Sequence[str]) -> None:
        """Check names of variants.

        Raises:
            InputError: if a name is unknown.
        """
        known = [variant.name for variant in self.variants]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"--variants: unknown variant '{unknown[0]}'; known are {', '.join(known)}")


def read_ablation(path: Path, test_sets: Sequence[str] = (), seeds: int | None = None) -> Ablation:
    """Read ``conf/ablation.yaml``, which may have a ``base``. Paths in it are relative to the working directory.

    A variant with the same configuration as the reference is left out, unless it is a baseline.

    Args:
        path: File to read.
        test_sets: Test sets that replace those in the file; a variant with its own test sets keeps the common ones.
        seeds: Maximum number of seeds of a variant.

    Raises:
        InputError: if a key is missing or unknown, a value has the wrong type, or a variant is unknown.
        MissingFileError: if the file, or a configuration in it, does not exist.
    """
    content = read_config(path)
    _check_types(path, content)
    sets = tuple(test_sets) or tuple(content["test_sets"])
    variants = {name: _variant(path, name, entry, sets, seeds) for name, entry in content["variants"].items()}
    named = [content["reference"], *content["baselines"]]
    unknown = [name for name in named if name not in variants]
    if unknown:
        raise InputError(f"{path}: unknown variant {quote(unknown[0])}; known are {', '.join(variants)}")
    decode = tuple(Path(name) for name in content["decode"])
    configs = (*decode, *(each.config for each in variants.values()))
    missing = [config for config in configs if not os.path.isfile(config)]
    if missing:
        raise MissingFileError(
            f"{missing[0]}: no such configuration, which {path} names; run the command in the folder of the recipe"
        )
    reference, *baselines = (variants[name] for name in named)
    same = read_config(reference.config)
    kept = [each for name, each in variants.items() if name in named or read_config(each.config) != same]
    return Ablation(reference, tuple(baselines), sets, decode, tuple(kept), str(content.get("about") or "").strip())


def decode_tag(config: Path) -> str:
    """Return the tag that ``run.sh`` gives to a decoding configuration.

    Example:
        >>> decode_tag(Path("conf/decode_held_out.yaml"))
        'held_out_valid.acc.ave'
    """
    name = config.stem.removeprefix("decode").removeprefix("_")
    return f"{name}_{Path(MODEL).stem}" if name else Path(MODEL).stem


def _check_types(path: Path, content: Mapping[str, Any]) -> None:
    """Check the keys of an ablation, and the types of their values."""
    if set(content) - {"about"} != KEYS or not content["variants"]:
        raise InputError(
            f"{path}: expected the keys {sorted(KEYS)} and at least one variant, got {sorted(map(str, content))}"
        )
    variants, reference = content["variants"], content["reference"]
    if not isinstance(variants, dict):
        raise InputError(f"{path}: variants must be a mapping of names to configurations, got {quote(variants)}")
    for name in (reference, *variants):
        if not isinstance(name, str):
            raise InputError(f"{path}: the name of a variant must be a text, got {quote(name)}; write it in quotes")
        check_name(name, str(path))
    for key in ("baselines", "test_sets", "decode"):
        if not _is_list_of_texts(content[key]):
            raise InputError(f"{path}: {key} must be a list of texts, got {quote(content[key])}; write it as [a, b]")
    for name in content["test_sets"]:
        check_name(name, f"{path}: test_sets")


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _variant(path: Path, name: str, entry: Mapping[str, Any], sets: Sequence[str], max_seeds: int | None) -> Variant:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), str) or not set(entry) <= VARIANT_KEYS:
        raise InputError(f"{path}: '{name}' must have a config and may have {sorted(VARIANT_KEYS)}, got {quote(entry)}")
    seeds, own = entry.get("seeds", 1), entry.get("test_sets", list(sets))
    if type(seeds) is not int or seeds < 1 or not _is_list_of_texts(own):
        raise InputError(f"{path}: '{name}' must have seeds of 1 or more and a list of test_sets, got {quote(entry)}")
    chosen = tuple(each for each in sets if each in own)
    return Variant(name, Path(entry["config"]), min(seeds, max_seeds or seeds), str(entry.get("title", name)), chosen)
