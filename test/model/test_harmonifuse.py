"""The network: gradients, loss, statistics, padding, and checkpoints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import LORA, VOCAB, batch, build_model, encode, row_of, save_encoder, save_llm, targets_of

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.outputs import BothOutput, HeadOutput, LabelOutput, TextOutput


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_encoder(tmp_path_factory.mktemp("wavlm")), save_llm(tmp_path_factory.mktemp("llm"))


def pretrained(folders: tuple[str, str], seed: int = 0) -> HarmoniFuseModel:
    """Build a model with a frozen encoder and a frozen language model with LoRA."""
    wavlm, llm = folders
    torch.manual_seed(seed)
    decoder = {"vocab_size": 257, "model": llm, "lora": LORA}
    return build_model(seed, SelfSupervisedEncoder(model=wavlm), decoder, last_bias=10.0)


def sizes(model: HarmoniFuseModel) -> tuple[int, int]:
    """Return the bytes of a checkpoint, and of one with all parameters."""
    buffers = [io.BytesIO(), io.BytesIO()]
    torch.save(model.state_dict(), buffers[0])
    torch.save(torch.nn.Module.state_dict(model), buffers[1])
    stored, complete = (len(buffer.getvalue()) for buffer in buffers)
    return stored, complete


def disturb(model: HarmoniFuseModel) -> HarmoniFuseModel:
    """Change every trained parameter, including the zeros of LoRA."""
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def check_gradients(model: HarmoniFuseModel, unused: set[str]) -> None:
    model.train()
    for data in (batch((0, 0, 0)), batch((1, 1, 1))):
        model(data)[0].backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained - reached == unused and not reached - trained
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_gradients_of_an_asr_and_a_ser_step_reach_all_parameters() -> None:
    check_gradients(build_model(ctc_feedback=True), unused=set())


def test_gradients_reach_trained_parameters_and_no_frozen_ones(folders: tuple[str, str]) -> None:
    model = disturb(pretrained(folders))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in names} == {
        "layer_weights",
        "gate",
        "connector",
        "ctc",
        "decoder",
        "fusion",
    }
    assert all("lora_" in name for name in names if name.startswith("decoder."))
    check_gradients(model, unused=set())


def test_gradients_of_a_ser_step_reach_neither_the_ctc_head_nor_the_layer_weights_of_asr() -> None:
    model = build_model()
    model(batch((1, 1, 1)))[0].backward()
    assert model.ctc is not None
    assert all(parameter.grad is None for parameter in model.ctc.parameters())
    assert model.layer_weights.weight.grad.abs().sum(1).gt(0).tolist() == [False, True]


def test_the_loss_of_a_task_is_the_mean_over_its_target_tokens() -> None:
    model, data = build_model(ctc=False), batch((0, 1, 1))
    with torch.no_grad():
        loss, stats, weight = model(data)
        encoded = encode(model, data)
        total, correct, tokens = np.zeros(3), np.zeros(3), np.zeros(3)
        for row in range(3):
            one = row_of(data, row)
            single = encode(model, one)
            target = targets_of(one).tokens[0].tolist()
            prefix = torch.cat([one.prompt[0], torch.tensor([1])])
            embeds = model.decoder.embed(prefix)
            speech = single.segments[1].embeds[0]
            inputs = torch.cat([embeds[:-1], speech, embeds[-1:], model.decoder.embed(torch.tensor(target[:-1]))])
            states = model.decoder.llm.model(inputs_embeds=inputs[None], output_hidden_states=True).hidden_states[1:]
            beta = model.fusion.weights(encoded.prompt_summary[row : row + 1], one.task)
            logits = model.decoder.head(model.fusion(states, beta))[0, -len(target) :]
            total[row] = float(F.cross_entropy(logits, torch.tensor(target), reduction="sum"))
            correct[row] = int((logits.argmax(-1) == torch.tensor(target))[:-1].sum())
            tokens[row] = len(target)
    asr, ser = total[0] / tokens[0], total[1:].sum() / tokens[1:].sum()
    assert [float(stats[f"loss_{task}"]) for task in ("asr", "ser")] == pytest.approx([asr, ser], rel=1e-5)
    assert float(loss) == pytest.approx((asr + 2 * ser) / 3, rel=1e-5) == float(stats["loss"])
    acc = (correct[0] / (tokens[0] - 1) + 2 * correct[1:].sum() / (tokens[1:] - 1).sum()) / 3
    assert float(stats["acc"]) == pytest.approx(acc) and float(weight) == 3


@pytest.mark.parametrize("output", [TextOutput, HeadOutput, BothOutput])
def test_the_loss_of_a_mixed_batch_is_the_weighted_mean_of_its_tasks_losses(output: type[LabelOutput]) -> None:
    model, data = build_model(ctc_weight=0.7, label_smoothing=0.1, output=output), batch((0, 0, 1))
    parts = [data.select(rows) for rows in ([0, 1], [2])]
    with torch.no_grad():
        loss, stats, _ = model(data)
        (asr, asr_stats, _), (ser, ser_stats, _) = (model(part) for part in parts)
    assert float(loss) == pytest.approx(float(2 * asr + ser) / 3, rel=1e-5)
    assert float(asr) == pytest.approx(float(asr_stats["loss_asr"] + 0.7 * asr_stats["loss_ctc_asr"]), rel=1e-5)
    mean = {"loss": loss, "acc": (2 * asr_stats["acc"] + ser_stats["acc"]) / 3}
    for name, value in {**asr_stats, **ser_stats, **mean}.items():
        assert float(stats[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ((0, 0, 0), {"loss", "acc", "loss_asr", "acc_asr", "loss_ctc_asr"}),
        ((1, 1, 1), {"loss", "acc", "loss_ser", "acc_ser"}),
        ((0, 1, 0), {"loss", "acc", "loss_asr", "acc_asr", "loss_ctc_asr", "loss_ser", "acc_ser"}),
    ],
)
def test_statistics_are_named_by_task(tasks: tuple[int, ...], names: set[str]) -> None:
    _, stats, _ = build_model()(batch(tasks))
    assert set(stats) == names


def test_the_ctc_loss_is_per_token_and_of_text_tasks_only() -> None:
    model, data = build_model(), batch((0, 0, 1))
    encoded = encode(model, data)
    assert encoded.ctc_log_probs is not None and encoded.ctc_log_probs.size(-1) == VOCAB + 1
    tokens, counts = targets_of(data).ctc_tokens[:2], targets_of(data).ctc_lengths[:2]
    expected = CTCHead.loss(encoded.ctc_log_probs[:2], encoded.frame_lengths[:2], tokens, counts) * 2 / counts.sum()
    assert float(model(data)[1]["loss_ctc_asr"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"ctc_feedback": True, "speech_first": True, "opening_ids": ()}])
def test_the_language_model_s_input_does_not_depend_on_padding(options: dict[str, Any]) -> None:
    model, data = build_model(**options), batch((0, 1, 0), (0.9, 0.3, 0.5))
    encoded = encode(model, data)
    prefix = model.splice_prefix(encoded)
    for row in range(3):
        single = encode(model, row_of(data, row))
        embeds = model.splice_prefix(single).embeds[0]
        torch.testing.assert_close(prefix.embeds[row, -len(embeds) :], embeds, atol=1e-5, rtol=0)
        assert not prefix.embeds[row, : -len(embeds)].any()
        assert single.frame_lengths.tolist() == [encoded.frame_lengths[row]]


def test_training_and_decoding_have_the_same_prefix() -> None:
    model, data = build_model(), batch((0, 1, 0))
    encoded = encode(model, data)
    targets = targets_of(data)
    prefix, full = model.splice_prefix(encoded), model.splice_target(encoded, targets.tokens, targets.lengths)
    for row, length in enumerate(targets_of(data).lengths.tolist()):
        size = int(prefix.mask[row].sum())
        assert torch.equal(prefix.embeds[row, -size:], full.embeds[row, :size])
        labels = full.labels[row]
        assert labels[size : size + length].tolist() == targets_of(data).tokens[row, :length].tolist()
        assert labels.ne(-100).sum() == length
        start = model.decoder.embed(torch.tensor(1))
        assert torch.equal(full.embeds[row, size - 1], start)
        first = data.prompt[row, 0]
        assert torch.equal(full.embeds[row, 0], model.decoder.embed(first))


def test_speech_first_swaps_prompt_and_speech() -> None:
    data = batch((0, 1, 0))
    model, swapped = build_model(), build_model(speech_first=True)
    before, after = (encode(one, data).segments for one in (model, swapped))
    for one, other in zip(before, after[::-1], strict=True):
        assert torch.equal(one.embeds, other.embeds)


def test_word_dropout_zeroes_input_embeddings_in_training_and_keeps_the_labels() -> None:
    model, data = build_model(word_dropout=1.0), batch((0, 1, 0))
    encoded = encode(model, data)
    without = model.splice_target(encoded, targets_of(data).tokens, targets_of(data).lengths)
    model.train()
    dropped = model.splice_target(encoded, targets_of(data).tokens, targets_of(data).lengths)
    assert torch.equal(dropped.labels, without.labels)
    targets = without.labels != -100
    assert not dropped.embeds[targets].any() and without.embeds[targets].any(-1).all()
    assert torch.equal(dropped.embeds[~targets], without.embeds[~targets])


def test_gradients_through_ctc_feedback_do_not_reach_the_ctc_head() -> None:
    model = build_model(ctc_feedback=True, ctc_weight=0.0)
    model(batch((0, 0, 0)))[0].backward()
    assert model.ctc is not None and model.feedback is not None
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.ctc.parameters())
    assert model.feedback.weight.grad.any()


def test_a_checkpoint_has_the_trained_parameters_and_loads_to_the_same_outputs(folders: tuple[str, str]) -> None:
    model, data = disturb(pretrained(folders)), batch((0, 1, 0))
    state = model.state_dict()
    assert not [name for name in state if name.startswith("frontend.")]
    assert {name for name in state if name.startswith("decoder.")} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    stored, complete = sizes(model)
    frozen = sum(4 * parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    assert complete - stored > 0.95 * frozen > 0.5 * complete
    other = pretrained(folders, seed=1)
    before, expected = other(data)[0], model(data)[0]
    assert not torch.isclose(before, expected)
    other.load_state_dict(state, strict=False)
    assert torch.equal(other(data)[0], expected)


def test_a_checkpoint_has_frozen_parameters_that_were_initialised_at_random() -> None:
    model = build_model()
    model.requires_grad_(False)
    assert set(model.state_dict()) == set(torch.nn.Module.state_dict(model))


def test_a_checkpoint_of_another_config_is_refused_with_the_keys_that_differ(folders: tuple[str, str]) -> None:
    state = build_model().state_dict()
    shape = state["gate.linguistic.bias"].shape
    changed = {name: value for name, value in state.items() if name != "connector.project.1.bias"}
    changed |= {"adapter.weight": torch.zeros(1), "gate.linguistic.bias": torch.zeros(7)}
    for strict in (True, False):
        with pytest.raises(InputError) as error:
            build_model().load_state_dict(changed, strict=strict)
        bias = state["connector.project.1.bias"]
        assert str(error.value) == (
            f"the checkpoint does not fit the config: missing weights: 1 (the first: connector.project.1.bias "
            f"{tuple(bias.shape)}), unknown weights: 1 (the first: adapter.weight (1,)), other shapes: 1 (the first: "
            f"gate.linguistic.bias, (7,) in the checkpoint, {tuple(shape)} in the config); use the config.yaml of the "
            "same experiment"
        )
    with pytest.raises(InputError) as error:
        build_model().load_state_dict({**state, "adapter.weight": torch.zeros(1)}, strict=False)
    assert str(error.value) == (
        "the checkpoint does not fit the config: unknown weights: 1 (the first: adapter.weight (1,)); use the "
        "config.yaml of the same experiment"
    )
    with pytest.raises(InputError) as error:
        pretrained(folders).load_state_dict(state)
    assert ", unknown weights: " in str(error.value) and "(the first: decoder.llm" in str(error.value)
    assert len(str(error.value)) < 500  # however many weights differ


def test_a_refused_checkpoint_does_not_change_the_model(tmp_path: Path) -> None:
    model = build_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = build_model(seed=1).state_dict()
    del other["fusion.norms.0.weight"]
    with pytest.raises(
        ValueError, match=r"config: missing weights: 1 \(the first: fusion.norms.0.weight \(32,\)\); use"
    ):
        model.load_state_dict(other)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
