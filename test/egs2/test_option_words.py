"""Options that hold options of another command are split at spaces, but not inside quotes and brackets."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harmonifuse_espnet.ablation import cost
from harmonifuse_espnet.ablation.runner import Recipe as AblationRecipe
from harmonifuse_espnet.ablation.spec import Run, Variant
from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.train.task import HarmoniFuseTask

if TYPE_CHECKING:
    from conftest import Recipe

TEMPLATE = Path(__file__).resolve().parents[2] / "egs2" / "TEMPLATE" / "slm1"
SPLIT = (
    '. utils/parse_options.sh; split_words words --train_args "$1"; (("${#words[@]}")) && printf "%s\\0" "${words[@]}"'
)
PATTERN = "--task_pattern {asr: 2, ser: 1}"


def split(text: str) -> subprocess.CompletedProcess[str]:
    """Split by the recipes' shell; the words end in NUL."""
    return subprocess.run(["bash", "-c", SPLIT, "bash", text], cwd=TEMPLATE, text=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  --max_epoch 3\t--seed\n7 ", ["--max_epoch", "3", "--seed", "7"]),
        (PATTERN, ["--task_pattern", "{asr: 2, ser: 1}"]),
        (f"{PATTERN} --seed 7", ["--task_pattern", "{asr: 2, ser: 1}", "--seed", "7"]),
        ("--a {b: {c: [1, {d: 2}]}, e: 3} f", ["--a", "{b: {c: [1, {d: 2}]}, e: 3}", "f"]),
        ("--a [{b: c, d: 1.0e-4}, {e: f}]", ["--a", "[{b: c, d: 1.0e-4}, {e: f}]"]),
        ("--conf specaug={a: 1, b: 2} next", ["--conf", "specaug={a: 1, b: 2}", "next"]),
        ("--tag 'two words' \"three more words\"", ["--tag", "two words", "three more words"]),
        ("--tag=\"it's\" a'b c'd ''", ["--tag=it's", "ab cd", ""]),
        ("'[not closed' \"{nor this\"", ["[not closed", "{nor this"]),
        ("--a {b: 'a } b', c: \"d ] e\"} f", ["--a", "{b: 'a } b', c: \"d ] e\"}", "f"]),
        ("--a [it's, 'it''s ] it'] f", ["--a", "[it's, 'it''s ] it']", "f"]),
        (r"--freeze_param a\.b [0-9]\d *", ["--freeze_param", r"a\.b", r"[0-9]\d", "*"]),
        ("$HOME `pwd` $(pwd)", ["$HOME", "`pwd`", "$(pwd)"]),
    ],
)
def test_words_are_separated_by_space_outside_quotes_and_brackets(text: str, words: list[str]) -> None:
    done = split(text)
    assert done.stdout.split("\0")[:-1] == words and done.stderr == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--tag it's", "no closing ' in '--tag it's'; close the quote, or put an apostrophe in double quotes"),
        ('--tag "two words', "no closing \" in '--tag \"two words'; close the quote"),
        ("--a {b: [1, 2]", "no closing } in '--a {b: [1, 2]'; balance the brackets, or quote the value"),
        ("--a {b: [1, 2}", "unexpected } after '--a {b: [1, 2'; balance the brackets, or quote the value"),
        ("--a b] c", "unexpected ] after '--a b'; balance the brackets, or quote the value"),
        ("--a {b: 'c}", "no closing ' in '--a {b: 'c}'"),
    ],
)
def test_an_unclosed_quote_or_bracket_is_an_error(text: str, message: str) -> None:
    done = split(text)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"error: --train_args: {message}")


@pytest.mark.parametrize(
    ("option", "stage", "more"),
    [
        ("--train_args", "6", ["--nproc", "1"]),
        ("--plan_args", "6", ["--plan", "true"]),
        ("--decode_args", "7", []),
        ("--upload_args", "10", ["--upload_repo", "user/name"]),
    ],
)
def test_every_option_for_another_command_keeps_values_with_spaces(
    mini: Recipe, option: str, stage: str, more: list[str]
) -> None:
    mini.run()
    mini.record.unlink()
    value = f"{PATTERN} --name 'two words'"
    done = mini.run("--stage", stage, "--stop_stage", stage, *more, option, value)
    calls = mini.calls()
    assert calls and all(call[-4:] == [*PATTERN.split(" ", 1), "--name", "two words"] for call in calls), done.stdout


def test_options_for_local_data_sh_keep_values_with_spaces(mini: Recipe) -> None:
    script = mini.dir / "local" / "data.sh"
    script.write_text(script.read_text(encoding="utf-8").replace("data.sh $*", "data.sh${*@Q}"), encoding="utf-8")
    done = mini.run("--stop_stage", "1", "--local_data_opts", "--labels '[a, b]' --name \"two words\"")
    assert "local/data.sh'--datadir' 'data' '--labels' '[a, b]' '--name' 'two words'\n" in done.stdout


@pytest.mark.parametrize(
    "option", ["--local_data_opts", "--train_args", "--plan_args", "--decode_args", "--upload_args"]
)
def test_an_unclosed_bracket_is_refused_before_anything_runs(mini: Recipe, option: str) -> None:
    done = mini.run(option, "--task_pattern {asr: 2")
    assert done.returncode == 1 and mini.calls() == []
    assert f"error: {option}: no closing }} in '--task_pattern {{asr: 2'" in done.stdout


@pytest.mark.parametrize("recipe", ["librispeech_iemocap", "iemocap", "librispeech"], indirect=True)
def test_the_large_recipes_pass_on_values_with_spaces(recipe: Recipe) -> None:
    done = recipe.run("--stop_stage", "6", "--train_args", PATTERN, "--local_data_opts", "--subsets '[a, b]'")
    assert recipe.calls()[-1][-2:] == PATTERN.split(" ", 1), done.stdout
    assert " --subsets [a, b]" in done.stdout


def test_an_ablation_passes_values_with_spaces_to_training(mini: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mini.dir)
    for name, value in {"RECORD": mini.record, "PYTHON": mini.python, "SETS": mini.sets}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(cost, "training_audio_seconds", lambda exp_dir: 1.0)
    ablation = AblationRecipe(Path("exp/ablation"), f"{PATTERN} --max_epoch 2", jobs=2)
    ablation.prepare(["test_asr"])
    run = Run(Variant("ours", Path("conf/train.yaml"), 1, "Ours", ("test_asr",)), 1, Path("exp/ablation/ours_seed1"))
    ablation.run(run, [])
    words = ["--seed", "1", *PATTERN.split(" ", 1), "--max_epoch", "2"]
    assert mini.calls()[-1][-6:] == words
    assert parse_with_config(HarmoniFuseTask.get_parser(), words).task_pattern == {"asr": 2, "ser": 1}
