"""An ablation, as ``conf/ablation.yaml`` describes it: variants of one training, and what they are compared with.

about: What is compared here.   # if there is more to say of it in RESULTS.md than the table does
reference: harmonifuse          # every variant is compared with this one
baselines: [asr_only, naive]    # the others change a part of the reference
test_sets: [test_an4, test_crema_d]
decode: [conf/decode.yaml]
variants:
  harmonifuse: {config: conf/train.yaml, seeds: 3, title: HarmoniFuse}
  asr_only: {config: conf/tuning/asr_only.yaml, seeds: 3, test_sets: [test_an4]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, MissingFileError

MODEL = "valid.acc.ave.pth"  # the model that decodes
KEYS = {"reference", "baselines", "test_sets", "decode", "variants"}
VARIANT_KEYS = {"config", "seeds", "title", "test_sets"}


@dataclass(frozen=True)
class Variant:
    """One training configuration.

    Attributes:
        name: Its runs are ``<name>_seed<k>``.
        config: Its training configuration.
        seeds: How many trainings, with the seeds 1, 2, ...
        title: Its name in tables.
        test_sets: What it is tested on.
    """

    name: str
    config: Path
    seeds: int
    title: str
    test_sets: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training of a variant, its answers and scores, in ``exp_dir``."""

    variant: Variant
    seed: int
    exp_dir: Path

    @property
    def name(self) -> str:
        """What it is called on the terminal."""
        return f"{self.variant.name} seed {self.seed}"

    def answers(self, decode: Path, test_set: str) -> Path:
        """The folder of a test set's answers, decoded with a configuration."""
        return self.exp_dir / f"decode_{decode_tag(decode)}" / test_set


@dataclass(frozen=True)
class Ablation:
    """All of it; see the module."""

    reference: Variant
    baselines: tuple[Variant, ...]
    test_sets: tuple[str, ...]
    decode: tuple[Path, ...]
    variants: tuple[Variant, ...]
    about: str = ""

    def runs(self, expdir: Path) -> list[Run]:
        """All runs, first seeds first, so that a table of what is there compares like with like."""
        most = max(variant.seeds for variant in self.variants)
        return [
            Run(variant, seed, expdir / f"{variant.name}_seed{seed}")
            for seed in range(1, most + 1)
            for variant in self.variants
            if seed <= variant.seeds
        ]


def read_ablation(path: Path, test_sets: Sequence[str] = (), seeds: int | None = None) -> Ablation:
    """Read ``conf/ablation.yaml``, which may have a ``base``; configurations in it are seen from the recipe's folder.

    What is no baseline, and configured as the reference is, is left out: a part that the reference has already.

    Args:
        path: The file.
        test_sets: In place of the file's; a variant with sets of its own keeps those of them that it names.
        seeds: At most so many of each variant.

    Raises:
        ValueError: if a key is missing or unknown, a value is not of its kind, or a name is no variant's.
        FileNotFoundError: if the file, or a configuration that it names, is missing.
    """
    content = read_config(path)
    if set(content) - {"about"} != KEYS or not content["variants"]:
        raise InputError(f"{path}: expected the keys {sorted(KEYS)} and at least one variant, found {sorted(content)}")
    sets = tuple(test_sets) or tuple(content["test_sets"])
    variants = {name: _variant(path, name, entry, sets, seeds) for name, entry in content["variants"].items()}
    named = [content["reference"], *content["baselines"]]
    unknown = [name for name in named if name not in variants]
    if unknown:
        raise InputError(f"{path}: '{unknown[0]}' is no variant; there are {', '.join(variants)}")
    decode = tuple(Path(name) for name in content["decode"])
    missing = [config for config in (*decode, *(each.config for each in variants.values())) if not config.is_file()]
    if missing:
        raise MissingFileError(f"{missing[0]}: no such file, but {path} names it; run this in the recipe's folder")
    reference, *baselines = (variants[name] for name in named)
    same = read_config(reference.config)
    kept = [each for name, each in variants.items() if name in named or read_config(each.config) != same]
    return Ablation(reference, tuple(baselines), sets, decode, tuple(kept), str(content.get("about") or "").strip())


def decode_tag(config: Path) -> str:
    """What ``run.sh`` calls a way of decoding: ``conf/decode_held_out.yaml`` gives ``held_out_valid.acc.ave``."""
    name = config.stem.removeprefix("decode").removeprefix("_")
    return f"{name}_{Path(MODEL).stem}" if name else Path(MODEL).stem


def _variant(path: Path, name: str, entry: Mapping[str, Any], sets: Sequence[str], most: int | None) -> Variant:
    if not isinstance(entry, dict) or "config" not in entry or not set(entry) <= VARIANT_KEYS:
        raise InputError(f"{path}: '{name}' must have a config and may have {sorted(VARIANT_KEYS)}, has {entry}")
    seeds, own = entry.get("seeds", 1), entry.get("test_sets", list(sets))
    if not isinstance(seeds, int) or seeds < 1 or not isinstance(own, list):
        raise InputError(f"{path}: '{name}' must have seeds of 1 or more and a list of test_sets, has {entry}")
    chosen = tuple(each for each in sets if each in own)
    return Variant(name, Path(entry["config"]), min(seeds, most or seeds), str(entry.get("title", name)), chosen)
