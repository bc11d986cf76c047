"""The whole network: who learns, what the loss is, what a checkpoint holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import LORA, VOCAB, batch, build_model, encode, row_of, save_encoder, save_llm

from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.outputs import BothOutput, HeadOutput, LabelOutput, TextOutput


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_encoder(tmp_path_factory.mktemp("wavlm")), save_llm(tmp_path_factory.mktemp("llm"))


def pretrained(folders: tuple[str, str], seed: int = 0) -> HarmoniFuseModel:
    """A frozen encoder and a frozen language model with LoRA."""
    wavlm, llm = folders
    torch.manual_seed(seed)
    decoder = {"vocab_size": 257, "model": llm, "lora": LORA}
    return build_model(seed, SelfSupervisedEncoder(model=wavlm), decoder, last_bias=10.0)


def sizes(model: HarmoniFuseModel) -> tuple[int, int]:
    """Bytes of a checkpoint, and of one that would hold everything."""
    buffers = [io.BytesIO(), io.BytesIO()]
    torch.save(model.state_dict(), buffers[0])
    torch.save(torch.nn.Module.state_dict(model), buffers[1])
    kept, everything = (len(buffer.getvalue()) for buffer in buffers)
    return kept, everything


def disturb(model: HarmoniFuseModel) -> HarmoniFuseModel:
    """Move every trained parameter, LoRA's zeros too."""
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def check_gradients(model: HarmoniFuseModel, unused: set[str]) -> None:
    model.train()
    for data in (batch((0, 0, 0)), batch((1, 1, 1))):
        model(**data)[0].backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained - moved == unused and not moved - trained
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_gradients_reach_everything_in_an_asr_and_a_ser_step() -> None:
    check_gradients(build_model(ctc_feedback=True), unused=set())


def test_gradients_reach_all_that_is_trained_and_nothing_frozen(folders: tuple[str, str]) -> None:
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


def test_a_ser_step_leaves_the_ctc_head_and_the_other_task_s_layer_weights_alone() -> None:
    model = build_model()
    model(**batch((1, 1, 1)))[0].backward()
    assert model.ctc is not None
    assert all(parameter.grad is None for parameter in model.ctc.parameters())
    assert model.layer_weights.weight.grad.abs().sum(1).gt(0).tolist() == [False, True]


def test_a_task_s_loss_is_the_mean_over_its_answer_tokens_by_hand() -> None:
    model, data = build_model(ctc=False), batch((0, 1, 1))
    with torch.no_grad():
        loss, stats, weight = model(**data)
        encoded = encode(model, data)
        total, hits, tokens = np.zeros(3), np.zeros(3), np.zeros(3)
        for row in range(3):
            one = row_of(data, row)
            alone = encode(model, one)
            answer = one["text"][0].tolist()
            prefix = torch.cat([one["prompt"][0], torch.tensor([1])])
            embeds = model.decoder.embed(prefix)
            speech = alone.segments[1].embeds[0]
            inputs = torch.cat([embeds[:-1], speech, embeds[-1:], model.decoder.embed(torch.tensor(answer[:-1]))])
            states = model.decoder.llm.model(inputs_embeds=inputs[None], output_hidden_states=True).hidden_states[1:]
            beta = model.fusion.weights(encoded.prompt_summary[row : row + 1], one["task"][0])
            logits = model.decoder.head(model.fusion(states, beta))[0, -len(answer) :]
            total[row] = float(F.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
            hits[row] = int((logits.argmax(-1) == torch.tensor(answer))[:-1].sum())
            tokens[row] = len(answer)
    asr, ser = total[0] / tokens[0], total[1:].sum() / tokens[1:].sum()
    assert [float(stats[f"loss_{task}"]) for task in ("asr", "ser")] == pytest.approx([asr, ser], rel=1e-5)
    assert float(loss) == pytest.approx((asr + 2 * ser) / 3, rel=1e-5) == float(stats["loss"])
    acc = (hits[0] / (tokens[0] - 1) + 2 * hits[1:].sum() / (tokens[1:] - 1).sum()) / 3
    assert float(stats["acc"]) == pytest.approx(acc) and float(weight) == 3


@pytest.mark.parametrize("output", [TextOutput, HeadOutput, BothOutput])
def test_a_mixed_batch_teaches_what_batches_of_one_task_each_teach(output: type[LabelOutput]) -> None:
    model, data = build_model(ctc_weight=0.7, label_smoothing=0.1, output=output), batch((0, 0, 1))
    parts = [{name: value[rows] for name, value in data.items()} for rows in ([0, 1], [2])]
    with torch.no_grad():
        loss, stats, _ = model(**data)
        (asr, asr_stats, _), (ser, ser_stats, _) = (model(**part) for part in parts)
    assert float(loss) == pytest.approx(float(2 * asr + ser) / 3, rel=1e-5)
    assert float(asr) == pytest.approx(float(asr_stats["loss_asr"] + 0.7 * asr_stats["loss_ctc_asr"]), rel=1e-5)
    whole = {"loss": loss, "acc": (2 * asr_stats["acc"] + ser_stats["acc"]) / 3}
    for name, value in {**asr_stats, **ser_stats, **whole}.items():
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
    _, stats, _ = build_model()(**batch(tasks))
    assert set(stats) == names


def test_the_ctc_loss_is_that_of_the_connector_s_frames_per_token() -> None:
    model, data = build_model(), batch((0, 0, 1))
    encoded = encode(model, data)
    assert encoded.ctc_log_probs is not None and encoded.ctc_log_probs.size(-1) == VOCAB + 1
    tokens, counts = data["ctc_text"][:2], data["ctc_text_lengths"][:2]
    expected = CTCHead.loss(encoded.ctc_log_probs[:2], encoded.frame_lengths[:2], tokens, counts) * 2 / counts.sum()
    assert float(model(**data)[1]["loss_ctc_asr"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"ctc_feedback": True, "speech_first": True, "opening_ids": ()}])
def test_the_outcome_does_not_depend_on_padding(options: dict[str, Any]) -> None:
    model, data = build_model(**options), batch((0, 1, 0), (0.9, 0.3, 0.5))
    encoded = encode(model, data)
    prefix = model.splice_prefix(encoded)
    for row in range(3):
        alone = encode(model, row_of(data, row))
        single = model.splice_prefix(alone).embeds[0]
        torch.testing.assert_close(prefix.embeds[row, -len(single) :], single, atol=1e-5, rtol=0)
        assert not prefix.embeds[row, : -len(single)].any()
        assert alone.frame_lengths.tolist() == [encoded.frame_lengths[row]]


def test_training_reads_the_prefix_that_decoding_reads() -> None:
    model, data = build_model(), batch((0, 1, 0))
    encoded = encode(model, data)
    prefix, whole = model.splice_prefix(encoded), model.splice_target(encoded, data["text"], data["text_lengths"])
    for row, length in enumerate(data["text_lengths"].tolist()):
        size = int(prefix.mask[row].sum())
        assert torch.equal(prefix.embeds[row, -size:], whole.embeds[row, :size])
        labels = whole.labels[row]
        assert labels[size : size + length].tolist() == data["text"][row, :length].tolist()
        assert labels.ne(-100).sum() == length
        start = model.decoder.embed(torch.tensor(1))
        assert torch.equal(whole.embeds[row, size - 1], start)
        first = data["prompt"][row, 0]
        assert torch.equal(whole.embeds[row, 0], model.decoder.embed(first))


def test_speech_may_come_first() -> None:
    data = batch((0, 1, 0))
    model, swapped = build_model(), build_model(speech_first=True)
    before, after = (encode(one, data).segments for one in (model, swapped))
    for one, other in zip(before, after[::-1], strict=True):
        assert torch.equal(one.embeds, other.embeds)


def test_answer_dropout_blanks_what_is_read_in_training_and_not_what_is_asked() -> None:
    model, data = build_model(word_dropout=1.0), batch((0, 1, 0))
    encoded = encode(model, data)
    quiet = model.splice_target(encoded, data["text"], data["text_lengths"])
    model.train()
    blanked = model.splice_target(encoded, data["text"], data["text_lengths"])
    assert torch.equal(blanked.labels, quiet.labels)
    answered = quiet.labels != -100
    assert not blanked.embeds[answered].any() and quiet.embeds[answered].any(-1).all()
    assert torch.equal(blanked.embeds[~answered], quiet.embeds[~answered])


def test_ctc_feedback_teaches_the_ctc_head_nothing() -> None:
    model = build_model(ctc_feedback=True, ctc_weight=0.0)
    model(**batch((0, 0, 0)))[0].backward()
    assert model.ctc is not None and model.feedback is not None
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.ctc.parameters())
    assert model.feedback.weight.grad.any()


def test_a_checkpoint_holds_what_is_trained_and_loads_to_the_same_outputs(folders: tuple[str, str]) -> None:
    model, data = disturb(pretrained(folders)), batch((0, 1, 0))
    state = model.state_dict()
    assert not [name for name in state if name.startswith("frontend.")]
    assert {name for name in state if name.startswith("decoder.")} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    kept, everything = sizes(model)
    frozen = sum(4 * parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    assert everything - kept > 0.95 * frozen > 0.5 * everything
    other = pretrained(folders, seed=1)
    before, expected = other(**data)[0], model(**data)[0]
    assert not torch.isclose(before, expected)
    other.load_state_dict(state, strict=False)
    assert torch.equal(other(**data)[0], expected)


def test_a_random_frozen_part_is_kept_for_nothing_else_holds_it() -> None:
    model = build_model()
    model.requires_grad_(False)
    assert set(model.state_dict()) == set(torch.nn.Module.state_dict(model))


def test_a_checkpoint_of_another_config_is_refused_with_its_keys(folders: tuple[str, str]) -> None:
    state = build_model().state_dict()
    shape = state["gate.linguistic.bias"].shape
    changed = {name: value for name, value in state.items() if name != "connector.project.1.bias"}
    changed |= {"adapter.weight": torch.zeros(1), "gate.linguistic.bias": torch.zeros(7)}
    for strict in (True, False):
        with pytest.raises(ValueError, match="the checkpoint does not fit the config; use the config.yaml") as error:
            build_model().load_state_dict(changed, strict=strict)
        assert "Missing: ['connector.project.1.bias']; unknown: ['adapter.weight']; " in str(error.value)
        assert f"other shapes: ['gate.linguistic.bias (7,) for {tuple(shape)}']" in str(error.value)
    with pytest.raises(ValueError, match=r"Missing: none; unknown: \['adapter.weight'\]; other shapes: none"):
        build_model().load_state_dict({**state, "adapter.weight": torch.zeros(1)}, strict=False)
    with pytest.raises(ValueError, match=r"unknown: \['decoder.llm"):
        pretrained(folders).load_state_dict(state)


def test_a_refused_checkpoint_changes_nothing(tmp_path: Path) -> None:
    model = build_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = build_model(seed=1).state_dict()
    del other["fusion.norms.0.weight"]
    with pytest.raises(ValueError, match=r"Missing: \['fusion.norms.0.weight'\]; unknown: none; other shapes: none"):
        model.load_state_dict(other)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
