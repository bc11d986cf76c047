"""Speech2Text: files and arrays, batches, prompts, search options, inspection, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import TABLE, Recipe, noise

from harmonifuse_espnet.bin import pack
from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.inference.generation import generate_text
from harmonifuse_espnet.inference.inspection import component_gate, layer_weights_by_prompt
from harmonifuse_espnet.inference.speech2text import Speech2Text
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.gate import utterance_stats


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Recipe(tmp_path_factory.mktemp("recipe")).train("exp")


@pytest.fixture(scope="module")
def model(experiment: Path) -> Speech2Text:
    return Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")


def test_a_file_an_array_and_a_tensor_give_the_same_result(model: Speech2Text, tmp_path: Path) -> None:
    samples = np.round(noise(9000) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    array = (samples / 32768).astype(np.float32)
    for task in TABLE:
        answer = model(tmp_path / "a.wav", task)
        assert (
            answer == model(array, task) == model(torch.from_numpy(array), task) == model(str(tmp_path / "a.wav"), task)
        )


def test_a_file_with_another_sampling_rate_is_resampled(model: Speech2Text, tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "slow.wav", tone, 8000)
    soundfile.write(tmp_path / "fast.wav", 0.3 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000), 16000)
    slow, fast = (model(tmp_path / f"{name}.wav", "ser").label_probs for name in ("slow", "fast"))
    for label in slow:
        assert slow[label] == pytest.approx(fast[label], abs=0.02)


def test_results_of_label_tasks_have_probabilities_and_those_of_text_tasks_a_ctc_transcript(model: Speech2Text) -> None:
    label, text = model(noise(9000), "ser"), model(noise(9000), "asr")
    assert list(label.label_probs) == ["ang", "neu", "sad"] and label.ctc_text is None
    assert sum(label.label_probs.values()) == pytest.approx(1.0, abs=1e-12)
    assert all(0 < probability < 1 for probability in label.label_probs.values())
    assert label.text == max(label.label_probs, key=lambda name: label.label_probs[name])
    assert not text.label_probs and text.ctc_text is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label_output", ["head", "both"])
def test_a_packed_model_with_a_classifier_gives_the_same_results(
    label_output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espnet_model_zoo.downloader import ModelDownloader

    experiment = Recipe(tmp_path).train("exp", {"label_output": label_output})
    monkeypatch.chdir(tmp_path)
    files = ["--train_config", "exp/config.yaml", "--model_file", "exp/valid.loss.ave.pth"]
    pack.main([*files, "--out", "model.zip"])
    unpacked = Speech2Text(**ModelDownloader(tmp_path / "cache").download_and_unpack(str(tmp_path / "model.zip")))
    answer = unpacked(noise(9000), "ser")
    assert sum(answer.label_probs.values()) == pytest.approx(1.0, abs=1e-12)
    assert answer.text == max(answer.label_probs, key=lambda name: answer.label_probs[name])
    trained = Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth")
    assert trained(noise(9000), "ser") == answer
    assert unpacked(noise(9000), "asr") == trained(noise(9000), "asr")


def test_the_results_of_a_mixed_batch_are_in_its_order(model: Speech2Text) -> None:
    inputs = [(noise(5000, 1), "ser"), (noise(9000, 2), "asr"), (noise(7000, 3), "ser"), (noise(6000, 4), "asr")]
    examples = [("u", model.preprocess("u", {"speech": speech, "task": task})) for speech, task in inputs]
    for answer, (speech, task) in zip(model.decode_batch(**collate(examples)[1]), inputs, strict=True):
        single = model(speech, task)
        assert (answer.text, answer.ctc_text) == (single.text, single.ctc_text)
        for label, probability in single.label_probs.items():
            assert answer.label_probs[label] == pytest.approx(probability, abs=1e-5)


def test_another_prompt_gives_other_probabilities(model: Speech2Text) -> None:
    first, second = TABLE["ser"]["prompts"]
    speech = noise(9000)
    assert model(speech, "ser", prompt=first) == model(speech, "ser")
    assert model(speech, "ser", prompt=second).label_probs != model(speech, "ser").label_probs


def test_beam_size_and_maximum_length_are_options(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses: list[list[int]] = []

    def recording(*args: Any, **options: Any) -> list[list[int]]:
        hypotheses.extend(generate_text(*args, **options))
        return hypotheses[-1:]

    monkeypatch.setattr("harmonifuse_espnet.inference.text_search.generate_text", recording)
    files = experiment / "config.yaml", experiment / "valid.loss.ave.pth"
    for beams, samples, frames in (
        (1, 9000, 8),
        (3, 9000, 8),
        (3, 5000, 4),
    ):  # 80 ms each: 10 ms, subsampled by 4, stacked by 2
        endless = {"suppress_tokens": [2]}
        Speech2Text(*files, beam_size=beams, max_length_ratio=0.5, generate=endless)(noise(samples), "asr")
        assert len(hypotheses[-1]) == frames // 2


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_high_ctc_weight_gives_the_ctc_transcript(experiment: Path, model: Speech2Text, beam_size: int) -> None:
    """The language model is hardly trained; the CTC posterior is patched to be certain of one text."""
    files = experiment / "config.yaml", experiment / "valid.loss.ave.pth"
    joint = Speech2Text(*files, beam_size=beam_size, ctc_weight=0.9)
    lm_only = Speech2Text(*files, beam_size=beam_size, ctc_weight=0.0)
    assert joint(noise(9000), "ser") == lm_only(noise(9000), "ser") == model(noise(9000), "ser")
    units = [unit + 1 for unit in model.tokenizer.encode("TWO ONE")]

    def certain(self: CTCHead, frames: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*frames.shape[:2], self.project.out_features)
        logits[:, range(len(units)), units] = 20.0
        logits[:, len(units) :, 0] = 20.0
        return logits.log_softmax(-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CTCHead, "forward", certain)
        assert joint(noise(12000), "asr").text == joint(noise(12000), "asr").ctc_text == "TWO ONE"
        assert lm_only(noise(12000), "asr").text != "TWO ONE"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, r"beam_size is 0, but must be an integer, 1 \(greedy search\) or more"),
        ({"beam_size": 2.5}, "beam_size is 2.5, but must be an integer"),
        ({"ctc_weight": 1.5}, "ctc_weight is 1.5, but must be from 0 .* to 1"),
        ({"ctc_weight": -0.1}, "ctc_weight is -0.1"),
        ({"max_length_ratio": 0}, "max_length_ratio is 0, but must be above 0"),
        ({"generate": {"num_beams": 4}}, "generate has num_beams: 4; set beam_size instead"),
        ({"generate": {"max_new_tokens": 9}}, "generate has max_new_tokens: 9; set max_length_ratio"),
    ],
)
def test_search_options_out_of_range_are_refused(experiment: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Speech2Text(experiment / "config.yaml", experiment / "valid.loss.ave.pth", **options)


def test_a_model_without_a_ctc_head_needs_ctc_weight_0(experiment: Path, tmp_path: Path) -> None:
    config = (experiment / "config.yaml").read_text().replace("ctc: true", "ctc: false")
    (tmp_path / "config.yaml").write_text(config)
    state = torch.load(experiment / "valid.loss.ave.pth")
    torch.save({name: value for name, value in state.items() if not name.startswith("ctc.")}, tmp_path / "no_ctc.pth")
    files = tmp_path / "config.yaml", tmp_path / "no_ctc.pth"
    with pytest.raises(
        ValueError, match=r"ctc_weight is 0.3, but .*config.yaml has no CTC head .*decode with ctc_weig"
    ):
        Speech2Text(*files, ctc_weight=0.3)
    model = Speech2Text(*files, beam_size=2)
    assert model(noise(9000), "asr").ctc_text is None and model(noise(9000), "ser").label_probs


def test_layer_weights_differ_by_task_and_prompt(model: Speech2Text) -> None:
    by_task = {task: layer_weights_by_prompt(model, task) for task in TABLE}
    for weights in by_task.values():
        assert [len(weights["layer_weights"]), len(weights["fusion_weights"])] == [2, 3]
        assert sum(weights["layer_weights"]) == pytest.approx(1) == sum(weights["fusion_weights"])
        assert weights["fusion_weights"][2] > 0.99  # close to the initialisation after one epoch
        for one in (weights, *weights["wordings"].values()):
            assert [sum(one[kind]) for kind in ("layer_weights", "fusion_weights")] == pytest.approx([1, 1])
    assert by_task["asr"]["layer_weights"] != by_task["ser"]["layer_weights"]
    for task, weights in by_task.items():
        wordings = weights.pop("wordings")
        assert weights.pop("held_out") == []
        assert list(wordings) == TABLE[task]["prompts"] and wordings[TABLE[task]["prompts"][0]] == weights
        assert len({str(one["fusion_weights"]) for one in wordings.values()}) == len(wordings)


def test_the_inspected_component_gate_is_that_of_the_forward_pass(model: Speech2Text) -> None:
    calls: list[Any] = []
    handle = model.model.gate.register_forward_hook(lambda gate, inputs, output: calls.append((inputs, output)))
    for task in TABLE:
        example = model.preprocess("u", {"speech": noise(9000), "task": task})
        model.decode_batch(**collate([("u", example)])[1])
        (hidden, lengths, _, _, rows), mixed = calls[-1]
        g, gate = torch.from_numpy(component_gate(model, example)), model.model.gate
        with torch.no_grad():
            stats = gate.stats_norm(utterance_stats(hidden, lengths), rows)
            paralinguistic = gate.paralinguistic(hidden) + gate.paralinguistic_stats(stats)
            torch.testing.assert_close(g * gate.linguistic(hidden) + (1 - g) * paralinguistic, mixed)
        assert len(g) * model.model.frontend.frame_shift == pytest.approx(9000 / 16000, abs=0.04)
    handle.remove()
    assert len(calls) == len(TABLE)


@pytest.mark.parametrize("shape", [(0,), (2, 4000), (1, 4000), ()])
def test_speech_of_another_shape_is_refused(model: Speech2Text, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"speech must be samples \(N,\) with N > 0, got shape \("):
        model(np.zeros(shape, np.float32), "asr")


def test_unknown_tasks_and_unreadable_audio_are_refused(model: Speech2Text, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task 'age' is not in the table of tasks \(asr, ser\)"):
        model(noise(8000), "age")
    with pytest.raises(FileNotFoundError, match="absent.wav: no such audio file"):
        model(tmp_path / "absent.wav", "asr")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match="empty.wav: the file is empty"):
        model(tmp_path / "empty.wav", "asr")


def test_an_utterance_of_one_sample_can_be_decoded(model: Speech2Text) -> None:
    assert model(np.zeros(1, np.float32), "ser").text in TABLE["ser"]["labels"]


def test_missing_files_are_named_with_the_stage_that_creates_them(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"valid.wer.pth: no such file; stage 6 \(training\) creates it"):
        Speech2Text(experiment / "config.yaml", experiment / "valid.wer.pth")
    with pytest.raises(FileNotFoundError, match="absent.yaml: no such file; stage 6"):
        Speech2Text(tmp_path / "absent.yaml", experiment / "valid.loss.ave.pth")


def test_a_checkpoint_of_another_config_is_refused(experiment: Path, tmp_path: Path) -> None:
    config = (experiment / "config.yaml").read_text().replace("gate_size: 24", "gate_size: 20")
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(
        ValueError,
        match=r"other shapes: \d+ \(the first: connector.project.0.bias, \(48,\) in the checkpoint, \(40,\) in the c",
    ):
        Speech2Text(tmp_path / "config.yaml", experiment / "valid.loss.ave.pth")
