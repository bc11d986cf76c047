"""Stage 7: every utterance has a hypothesis that does not depend on the batch; an interrupted call is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch
import yaml
from tiny import TABLE, Recipe

from harmonifuse_espnet.bin.decode import main
from harmonifuse_espnet.common.errors import InputError, MissingFileError
from harmonifuse_espnet.common.experiment import read_run
from harmonifuse_espnet.data.batch import SpeechBatch
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.inference.decoding import PARTIAL, DecodeData
from harmonifuse_espnet.inference.gate_trace import read_gates
from harmonifuse_espnet.inference.speech2text import Speech2Text

FILES = {"text", "ctc_text", "label_probs.jsonl", "gate.json", "run.json"}
SPEED = ("audio_seconds", "seconds", "rtf")
HELD_OUT = {"asr": ["WRITE TWO", "WRITE THREE"], "ser": ["HOW IT IS"]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    table = {name: {**task, "held_out_prompts": HELD_OUT[name]} for name, task in TABLE.items()}
    return Recipe(tmp_path_factory.mktemp("recipe"), table)


@pytest.fixture(scope="module")
def experiment(recipe: Recipe) -> Path:
    """A model after one epoch, with random weights, so that hypotheses differ between utterances."""
    experiment = recipe.train("exp")
    state = torch.load(experiment / "valid.loss.ave.pth")
    torch.manual_seed(1)
    for name in ("decoder.llm.lm_head.weight", "connector.project.3.weight", "ctc.project.weight"):
        torch.nn.init.normal_(state[name])
    torch.save(state, experiment / "valid.loss.ave.pth")
    return experiment


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, experiment: Path) -> Path:
    """An uninterrupted decoding, in batches of two."""
    return recipe.decode(experiment, recipe.folder / "uninterrupted", "--batch_size", "2")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches from now on; a first element of -1 interrupts the call after two batches."""
    sizes: list[int] = []
    original = Speech2Text.decode_batch

    def decode_batch(self: Speech2Text, batch: SpeechBatch) -> Any:
        if -1 in sizes and len(sizes) > 2:
            raise KeyboardInterrupt
        sizes.append(len(batch.task))
        return original(self, batch)

    monkeypatch.setattr(Speech2Text, "decode_batch", decode_batch)
    return sizes


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a decode folder; of ``run.json`` only what does not depend on model file and speed."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if "run.json" in files:
        files["run.json"] = json.dumps(description(folder)).encode()
    return files


def description(folder: Path) -> dict[str, Any]:
    """Return parameters and layer weights of ``run.json``."""
    return {name: value for name, value in read_run(folder).items() if name not in (*SPEED, "decoded_with")}


def interrupt(recipe: Recipe, experiment: Path, out: Path, batches: list[int]) -> None:
    """Decode two batches of two, then interrupt the call with an incomplete line."""
    batches.append(-1)
    with pytest.raises(KeyboardInterrupt):
        recipe.decode(experiment, out, "--batch_size", "2")
    lines = (out / PARTIAL).read_text()
    assert set(contents(out)) == {PARTIAL} and lines.count("\n") == 1 + 4
    (out / PARTIAL).write_text(lines[:-20])
    batches.clear()


def test_every_utterance_has_the_files_of_its_task(recipe: Recipe, uninterrupted: Path) -> None:
    tasks, text = read_table(recipe.folder / "test/utt2task"), read_table(uninterrupted / "text", allow_empty=True)
    assert {path.name for path in uninterrupted.iterdir()} == FILES and list(text) == list(tasks)
    ctc = read_table(uninterrupted / "ctc_text", allow_empty=True)
    assert set(ctc) == {key for key, task in tasks.items() if task == "asr"}
    probs = {
        row["id"]: row["probs"]
        for row in map(json.loads, (uninterrupted / "label_probs.jsonl").read_text().splitlines())
    }
    assert set(probs) == {key for key, task in tasks.items() if task == "ser"}
    for key, row in probs.items():
        assert list(row) == list(TABLE["ser"]["labels"]) and sum(row.values()) == pytest.approx(1, abs=1e-12)
        assert text[key] == max(row, key=lambda label: row[label])
    assert len({text[key] for key in ctc}) > 1 and len(set(ctc.values())) > 1  # sounds differ
    weights = read_run(uninterrupted)["tasks"]
    for task in TABLE:
        assert sum(weights[task]["layer_weights"]) == pytest.approx(1)
        assert sum(weights[task]["fusion_weights"]) == pytest.approx(1)
        assert list(weights[task]["wordings"]) == TABLE[task]["prompts"] + HELD_OUT[task]


def test_model_data_and_options_are_recorded(recipe: Recipe, experiment: Path, uninterrupted: Path) -> None:
    used = read_run(uninterrupted)["decoded_with"]
    assert (used["file"], used["data_dir"]) == (str(experiment / "valid.loss.ave.pth"), str(recipe.folder / "test"))
    assert (used["prompts"], used["beam_size"], used["ctc_weight"]) == ("trained", 1, 0.0)
    assert 0 < read_run(uninterrupted)["trained_parameters"] <= read_run(uninterrupted)["parameters"]


def test_the_gate_is_recorded_for_the_utterance_of_median_length_of_each_task(
    recipe: Recipe, uninterrupted: Path
) -> None:
    lengths = {key: int(length) for key, length in read_table(recipe.folder / "test/utt2num_samples").items()}
    text, traces = read_table(uninterrupted / "text", allow_empty=True), read_gates(uninterrupted / "gate.json")
    assert [trace.task for trace in traces] == list(TABLE)
    for trace in traces:
        keys = sorted((key for key in lengths if f"_{trace.task}_" in key), key=lambda key: lengths[key])
        assert trace.utterance == keys[1] and len(keys) == 3
        assert (trace.prompt, trace.answer) == (TABLE[trace.task]["prompts"][0], text[trace.utterance])
        assert set(trace.others) == set(TABLE) - {trace.task} and trace.others.popitem()[1] != trace.mean
        assert len(trace.logmel) == lengths[trace.utterance] // 320 + 1  # 20 ms
        assert abs(len(trace.mean) * trace.frame_shift - lengths[trace.utterance] / 16000) < 0.05
        assert all(0 < low <= high < 1 for low, high in zip(trace.low, trace.high, strict=True))


def test_a_model_without_a_gate_has_no_gate_file(recipe: Recipe) -> None:
    out = recipe.decode(recipe.train("ungated", component_gate="none"), recipe.folder / "no_gate")
    assert set(contents(out)) == FILES - {"gate.json"}


@pytest.mark.parametrize("size", [1, 16])
def test_hypotheses_do_not_depend_on_the_batch(
    recipe: Recipe, experiment: Path, uninterrupted: Path, size: int
) -> None:
    out = recipe.decode(experiment, recipe.folder / f"batch{size}", "--batch_size", str(size))
    for name in ("text", "ctc_text", "run.json", "gate.json"):
        assert contents(out)[name] == contents(uninterrupted)[name]
    rows = [map(json.loads, (folder / "label_probs.jsonl").read_text().splitlines()) for folder in (out, uninterrupted)]
    for one, other in zip(*rows, strict=True):
        assert one["id"] == other["id"] and one["probs"] == pytest.approx(other["probs"], abs=1e-5)


def test_an_interrupted_call_is_resumed_with_the_same_result(
    recipe: Recipe, experiment: Path, uninterrupted: Path, batches: list[int], tmp_path: Path
) -> None:
    interrupt(recipe, experiment, tmp_path / "out", batches)
    recipe.decode(experiment, tmp_path / "out", "--batch_size", "2")
    assert batches == [2, 2]  # the first of three batches was finished
    assert contents(tmp_path / "out") == contents(uninterrupted)


def test_the_decoding_time_includes_that_of_an_interrupted_call(
    recipe: Recipe, experiment: Path, batches: list[int], tmp_path: Path
) -> None:
    interrupt(recipe, experiment, tmp_path / "out", batches)
    partial = (tmp_path / "out" / PARTIAL).read_text().splitlines()[:3]  # the identity, and the first batch
    slow = [json.dumps({**json.loads(line), "seconds": 1000.0}) for line in partial[1:]]
    (tmp_path / "out" / PARTIAL).write_text("\n".join([partial[0], *slow]) + "\n")
    recipe.decode(experiment, tmp_path / "out", "--batch_size", "2")
    speed = read_run(tmp_path / "out")
    samples = map(int, read_table(recipe.folder / "test/utt2num_samples").values())
    assert speed["audio_seconds"] == pytest.approx(sum(samples) / 16000, abs=0.01)
    assert 2000 < speed["seconds"] < 2100
    assert speed["rtf"] == pytest.approx(speed["seconds"] / speed["audio_seconds"], rel=0.01)


def test_the_last_line_has_the_real_time_factor(
    recipe: Recipe, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recipe.decode(experiment, recipe.folder / "speed")
    audio, seconds, rtf = (read_run(out)[name] for name in SPEED)
    line = f"{out}: 6 utterances, {audio} s of audio decoded in {seconds} s, real-time factor {rtf}"
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_held_out_prompts_rotate_independently_of_the_batch(
    recipe: Recipe, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: dict[tuple[str, str], str | None] = {}
    original = Speech2Text.build_example

    def build_example(self: Speech2Text, key: str, speech: Any, task: str, prompt: str | None = None) -> Any:
        prompts.setdefault((key, task), prompt)  # trace_gate calls it again
        return original(self, key, speech, task, prompt)

    monkeypatch.setattr(Speech2Text, "build_example", build_example)
    first, second = HELD_OUT["asr"]
    for size in ("1", "4"):
        prompts.clear()
        recipe.decode(experiment, tmp_path / size, "--batch_size", size, "--prompts", "held_out")
        assert [prompts[f"test_asr_{number}", "asr"] for number in range(3)] == [first, second, first]
        assert [prompts[f"test_ser_{number}", "ser"] for number in range(3)] == HELD_OUT["ser"] * 3
    assert contents(tmp_path / "1").keys() == contents(tmp_path / "4").keys()
    prompts.clear()
    recipe.decode(experiment, tmp_path / "trained")
    assert set(prompts.values()) == {None}  # the first prompt of the task


@pytest.mark.parametrize(
    "options",
    [
        ["--max_length_ratio", "0.5"],
        ["--generate", "{repetition_penalty: 1.2}"],
        ["--beam_size", "2"],
        ["--ctc_weight", "0.3"],
        ["--length_penalty", "0.5"],
        ["--prompts", "held_out"],
    ],
    ids=lambda options: options[0],
)
def test_decoding_starts_over_with_other_options(
    recipe: Recipe, experiment: Path, batches: list[int], tmp_path: Path, options: list[str]
) -> None:
    interrupt(recipe, experiment, tmp_path / "out", batches)
    recipe.decode(experiment, tmp_path / "out", "--batch_size", "2", *options)
    assert batches == [2, 2, 2]


def test_decoding_starts_over_with_another_model(
    recipe: Recipe, experiment: Path, uninterrupted: Path, batches: list[int], tmp_path: Path
) -> None:
    interrupt(recipe, experiment, tmp_path / "out", batches)
    state = torch.load(experiment / "valid.loss.ave.pth")
    torch.save(state, tmp_path / "other.pth")
    recipe.decode(experiment, tmp_path / "out", "--batch_size", "2", "--model_file", str(tmp_path / "other.pth"))
    assert batches == [2, 2, 2] and contents(tmp_path / "out") == contents(uninterrupted)


def test_options_of_the_command_line_override_those_of_a_file(
    recipe: Recipe, experiment: Path, batches: list[int], tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text("batch_size: 3\n")
    (tmp_path / "decode.yaml").write_text("base: base.yaml\n")
    recipe.decode(experiment, tmp_path / "a", "--config", str(tmp_path / "decode.yaml"))
    recipe.decode(experiment, tmp_path / "b", "--config", str(tmp_path / "decode.yaml"), "--batch_size", "4")
    assert batches == [3, 3, 4, 2]


@pytest.fixture
def failure(recipe: Recipe, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that calls the command with options that it refuses, and returns the error message."""

    def refuse(*options: str) -> str:
        with pytest.raises(SystemExit, match="1"):
            recipe.decode(experiment, tmp_path / "out", *options)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]

    return refuse


def test_an_unknown_option_in_the_file_is_named(failure: Any, tmp_path: Path) -> None:
    (tmp_path / "decode.yaml").write_text(yaml.safe_dump({"beams": 3, "batch_size": 2}))
    assert "decode.yaml: unknown options: beams; --help" in failure("--config", str(tmp_path / "decode.yaml"))


def test_missing_files_utterances_and_tasks_are_named(failure: Any, recipe: Recipe, tmp_path: Path) -> None:
    assert "absent.pth: no such file; stage 6" in failure("--model_file", str(tmp_path / "absent.pth"))
    assert "wav.scp" in failure("--data_dir", str(tmp_path / "no_dump"))
    for table, problem in (("utt2task", "test_ser_2"), ("utt2num_samples", "test_ser_2")):
        dump = tmp_path / f"without_{table}"
        dump.mkdir()
        for name in ("wav.scp", "utt2task", "utt2num_samples"):
            lines = (recipe.folder / "test" / name).read_text().splitlines(keepends=True)
            (dump / name).write_text("".join(lines[:-1] if name == table else lines))
        message = failure("--data_dir", str(dump))
        assert table in message and problem in message
    dump = tmp_path / "other_task"
    dump.mkdir()
    for name in ("wav.scp", "utt2task", "utt2num_samples"):
        (dump / name).write_text((recipe.folder / "test" / name).read_text().replace(" ser", " age"))
    assert "task 'age' is not in the table of tasks (asr, ser)" in failure("--data_dir", str(dump))


def test_features_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    kaldiio.save_ark(str(tmp_path / "a.ark"), {"a": np.full((3, 2), np.inf, np.float32)})
    location = f"{tmp_path}/a.ark:2"
    data = DecodeData({"a": location, "b": f"{tmp_path}/b.ark:2"}, {"a": 1, "b": 1}, {"a": "asr", "b": "asr"}, "fbank")
    with pytest.raises(InputError) as error:
        data.load("a")
    assert str(error.value) == (
        f"{location}: 6 of 6 values are NaN or infinite, the first in frame 0; run stage 3 again"
    )
    with pytest.raises(MissingFileError) as error:
        data.load("b")
    assert str(error.value) == f"{tmp_path}/b.ark: no such archive; run stage 3 again, or stage 2 for audio"


def test_invalid_search_options_and_prompts_are_refused(failure: Any, experiment: Path, tmp_path: Path) -> None:
    assert "ctc_weight is 2.0, but must be from 0" in failure("--ctc_weight", "2")
    assert "--prompts is 'new', but must be one of: trained, held_out" in failure("--prompts", "new")
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    del config["tasks"]["ser"]["held_out_prompts"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    message = failure("--train_config", str(tmp_path / "config.yaml"), "--prompts", "held_out")
    assert "config.yaml: task 'ser' has no held_out_prompts, which --prompts held_out needs; add" in message


def test_a_checkpoint_of_another_config_is_refused(failure: Any, experiment: Path, tmp_path: Path) -> None:
    state = torch.load(experiment / "valid.loss.ave.pth")
    del state["gate.gate_hidden.bias"]
    torch.save(state, tmp_path / "other.pth")
    message = failure("--model_file", str(tmp_path / "other.pth"))
    assert (
        "the checkpoint does not fit the config" in message
        and "missing weights: 1 (the first: gate.gate_hidden.bias (" in message
    )


def test_a_folder_that_cannot_be_written_is_named(recipe: Recipe, experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SystemExit, match="1"):
        main(
            ["--train_config", str(experiment / "config.yaml"), "--data_dir", str(recipe.folder / "test")]
            + ["--model_file", str(experiment / "valid.loss.ave.pth"), "--out_dir", str(tmp_path / "taken")]
        )
