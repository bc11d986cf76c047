"""conf/ablation.yaml: its content, the order of the runs, and the files of the committed recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_recipe import ABLATION, make_recipe, write_config

from harmonifuse_espnet.ablation.spec import decode_tag, read_ablation
from harmonifuse_espnet.common.config import read_config

RECIPES = sorted((Path(__file__).parents[2] / "egs2").glob("[!T]*/slm1/conf/ablation.yaml"))


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_recipe(tmp_path / "slm1"))
    return tmp_path / "slm1"


def test_runs_are_sorted_by_seed() -> None:
    runs = read_ablation(Path("conf/ablation.yaml")).runs(Path("exp/ablation"))
    folders = ["ours_seed1", "asr_only_seed1", "naive_seed1", "same_seed1", "ours_seed2", "naive_seed2"]
    assert [str(run.exp_dir) for run in runs] == [f"exp/ablation/{name}" for name in folders]


def test_the_number_of_seeds_can_be_reduced_but_not_increased() -> None:
    seeds = [[each.seeds for each in read_ablation(Path("conf/ablation.yaml"), (), most).variants] for most in (1, 9)]
    assert seeds == [[1, 1, 1, 1], [2, 1, 2, 1]]


def test_a_variant_keeps_the_chosen_test_sets_among_its_own() -> None:
    def sets(*chosen: str) -> list[tuple[str, ...]]:
        return [variant.test_sets for variant in read_ablation(Path("conf/ablation.yaml"), chosen).variants[:2]]

    assert sets() == [("test_asr", "test_ser"), ("test_asr",)]
    assert sets("dev_ser", "dev_asr") == [("dev_ser", "dev_asr"), ("dev_asr",)]


def test_decode_folders_are_those_of_run_sh() -> None:
    assert decode_tag(Path("conf/decode.yaml")) == "valid.acc.ave"
    assert decode_tag(Path("conf/decode_held_out.yaml")) == "held_out_valid.acc.ave"
    run = read_ablation(Path("conf/ablation.yaml")).runs(Path("exp"))[1]
    folder = run.decode_dir(Path("conf/decode.yaml"), "test_asr")
    assert folder.dir == Path("exp/asr_only_seed1/decode_valid.acc.ave/test_asr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("decode"), r"expected the keys \['baselines', 'decode'"),
        (
            lambda content: content.update(notes="") or content.pop("about"),
            r"expected the keys \['baselines', 'decode'",
        ),
        (lambda content: content.update(reference="theirs"), "unknown variant 'theirs'; known are ours, asr_only"),
        (lambda content: content["variants"].update(naive={"seed": 3}), "'naive' must have a config and may have"),
        (lambda content: content["variants"]["ours"].update(seeds=0), "'ours' must have seeds of 1 or more"),
        (lambda content: content["variants"]["ours"].update(test_sets="a"), "a list of test_sets, got"),
        (
            lambda content: content["variants"]["same"].update(config="conf/x.yaml"),
            "conf/x.yaml: no such configuration, which conf/ablation.yaml names",
        ),
    ],
)
def test_invalid_content_is_named(recipe: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = {**ABLATION, "variants": {name: dict(entry) for name, entry in ABLATION["variants"].items()}}
    change(content)
    write_config(recipe, "ablation", content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_ablation(Path("conf/ablation.yaml"))


def test_a_variant_equal_to_the_reference_is_left_out_unless_it_is_a_baseline(recipe: Path) -> None:
    for name in ("naive", "same"):
        write_config(recipe, name, {"base": "train.yaml", "max_epoch": 2})
    ablation = read_ablation(Path("conf/ablation.yaml"))
    assert [variant.name for variant in ablation.variants] == ["ours", "asr_only", "naive"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parts[-4])
def test_the_ablation_of_a_recipe_has_all_of_its_configurations(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parents[1])
    ablation = read_ablation(Path("conf/ablation.yaml"))
    main = {variant.name: variant.seeds for variant in (ablation.reference, *ablation.baselines)}
    assert set(main) >= {"harmonifuse", "asr_only", "ser_only", "naive", "prompt_only"} and set(main.values()) == {3}
    reference = read_config("conf/train.yaml")
    parts = {path for path in Path("conf/tuning").glob("*.yaml") if read_config(path) != reference}
    assert {variant.config for variant in ablation.variants} >= {Path("conf/train.yaml"), *parts}
    sets = {name: set(variant.test_sets) for variant in ablation.variants for name in [variant.name]}
    assert sets["asr_only"] and sets["ser_only"] and not sets["asr_only"] & sets["ser_only"]
    assert sets["asr_only"] | sets["ser_only"] == sets["naive"] == set(ablation.test_sets)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("variants", ["ours"], "variants must be a mapping of names to configurations, got ['ours']"),
        ("reference", ["ours"], "the name of a variant must be a text, got ['ours']; write it in quotes"),
        ("reference", False, "the name of a variant must be a text, got False; write it in quotes"),
        ("baselines", "naive", "baselines must be a list of texts, got 'naive'; write it as [a, b]"),
        ("test_sets", "test_asr", "test_sets must be a list of texts, got 'test_asr'; write it as [a, b]"),
        ("test_sets", [1], "test_sets must be a list of texts, got [1]; write it as [a, b]"),
        ("decode", 5, "decode must be a list of texts, got 5; write it as [a, b]"),
    ],
)
def test_a_value_of_another_type_is_named(recipe: Path, key: str, value: Any, message: str) -> None:
    write_config(recipe, "ablation", {**ABLATION, key: value})
    with pytest.raises(ValueError) as error:
        read_ablation(Path("conf/ablation.yaml"))
    assert str(error.value) == f"conf/ablation.yaml: {message}"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "problem"),
    [("a/b", "has a slash"), ("a b", "has the space or invisible character U+0020"), ("..", "cannot be a name")],
)
def test_a_name_that_cannot_be_a_folder_is_named(recipe: Path, name: str, problem: str) -> None:
    for key, value, where in (("test_sets", [name], ": test_sets"), ("reference", name, "")):
        write_config(recipe, "ablation", {**ABLATION, key: value})
        with pytest.raises(ValueError) as error:
            read_ablation(Path("conf/ablation.yaml"))
        expected = f"conf/ablation.yaml{where}: {name!r} {problem}; use letters, digits, '-' and '_'"
        assert str(error.value) == expected


@pytest.mark.bad_input
@pytest.mark.parametrize("change", [{"seeds": True}, {"seeds": 1.5}, {"test_sets": [1]}])
def test_a_variant_of_other_types_is_named(recipe: Path, change: dict[str, Any]) -> None:
    entry = {"config": "conf/train.yaml", **change}
    write_config(recipe, "ablation", {**ABLATION, "variants": {**ABLATION["variants"], "ours": entry}})
    with pytest.raises(ValueError) as error:
        read_ablation(Path("conf/ablation.yaml"))
    assert str(error.value) == (
        f"conf/ablation.yaml: 'ours' must have seeds of 1 or more and a list of test_sets, got {entry}"
    )
