"""Labels by words, by a classifier, by both: the same in training and in decoding, and by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import EOS, batch, build_model, encode, row_of
from torch import Tensor, nn

from harmonifuse_espnet.inference.generation import label_log_probs
from harmonifuse_espnet.model.fusion import LastLayerFusion
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.layer_weights import LastWeights
from harmonifuse_espnet.model.outputs import (
    BothOutput,
    HeadOutput,
    LabelOutput,
    LMOutput,
    Predictions,
    TextOutput,
    loss_by_task,
    predict_tokens,
)
from harmonifuse_espnet.model.splice import IGNORE, Spliced

LABELS = [[4, EOS], [5, 6, 7, EOS], [5, 8, EOS]]
SECONDS = (0.9, 0.3, 0.5)
SER = (1, 1, 1)


def lm_output(states: list[list[list[float]]], labels: list[list[int]], mask: list[list[int]]) -> LMOutput:
    """Literal states (B, S, V) of a language model of one layer, after lm_output what ``labels`` and ``mask`` say."""
    state, valid = torch.tensor(states), torch.tensor(mask).bool()
    spliced = Spliced(torch.zeros_like(state), valid, torch.zeros_like(valid).long(), torch.tensor(labels))
    return LMOutput(spliced, [state], LastLayerFusion(LastWeights(1, 1, 1)), torch.ones(len(states), 1))


def decoded(model: HarmoniFuseModel, data: dict[str, Tensor]) -> Tensor:
    return label_log_probs(model, encode(model, data), data["task"].view(-1), LABELS)


def answering(model: HarmoniFuseModel, output: LabelOutput) -> HarmoniFuseModel:
    """The same model with another output, whose classifiers are the same if it has some."""
    other = copy.deepcopy(model)
    other.label_output = output
    output.load_state_dict(model.label_output.state_dict() if isinstance(output, HeadOutput) else {})
    return other.eval()


def test_pooled_states_are_those_before_the_answer_by_hand() -> None:
    states = [[[1.0], [3.0], [90.0], [90.0]], [[90.0], [2.0], [4.0], [9.0]]]
    labels, mask = [[IGNORE, IGNORE, 7, IGNORE], [IGNORE] * 4], [[1, 1, 1, 0], [0, 1, 1, 1]]
    assert lm_output(states, labels, mask).pooled(torch.tensor([1, 0])).tolist() == [[5.0], [2.0]]


def test_each_task_is_classified_among_its_own_labels_by_hand() -> None:
    output = HeadOutput([0, 2, 3], 1)
    for head in output.heads.values():
        nn.init.zeros_(head.bias)
        head.weight.data[:, 0] = torch.tensor([0.0, 1.0, 2.0])[: head.out_features]
    read = lm_output([[[5.0]], [[1.0]], [[2.0]], [[-1.0]]], [[IGNORE]] * 4, [[1]] * 4)
    two, three = output(read, torch.tensor([0, 2, 1, 2]), torch.tensor([-1, 2, 0, 1]), 0.0)
    assert two.row.tolist() == [2] and two.hit.tolist() == [False]
    assert two.loss.tolist() == pytest.approx([2.126928])  # log(1 + e^2)
    assert three.row.tolist() == [1, 3] and three.hit.tolist() == [True, False]
    assert three.loss.tolist() == pytest.approx([0.407606, 1.407606])  # log(1 + 1 / e + 1 / e^2), and one more


def test_tokens_are_predicted_before_they_are_read_and_the_end_is_not_counted() -> None:
    states = [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [9.0, 9.0, 9.0]], [[1.0, 0.0, 0.0]] * 3]
    read = lm_output(states, [[IGNORE, 1, 2], [IGNORE, 2, IGNORE]], [[1, 1, 1], [1, 1, 0]])
    asked = predict_tokens(read, nn.Identity(), 0.0)
    assert asked.row.tolist() == [0, 0, 1] and asked.hit.tolist() == [True, True, False]
    assert asked.counted.tolist() == [True, False, False]
    assert asked.loss.tolist() == pytest.approx([0.551445, 0.551445, 1.551445])  # log(e + 2) - 1, and one more


def test_ways_of_asking_add_their_losses_and_the_last_tells_the_accuracy() -> None:
    yes, no = torch.tensor([True]), torch.tensor([False])
    text, label = torch.tensor([0]), torch.tensor([1])
    tokens = Predictions(torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 4.0]), yes.repeat(3), yes.repeat(3))
    answers = loss_by_task(torch.tensor([5, 2]), [tokens, Predictions(label, torch.tensor([0.5]), no, yes)])
    assert {task: (float(loss), float(acc)) for task, (loss, acc) in answers.items()} == {2: (4.5, 0.0), 5: (2.0, 1.0)}
    assert loss_by_task(torch.tensor([5]), [Predictions(text, torch.tensor([1.0]), no, yes)])[5].acc == 0


@pytest.mark.parametrize("output", [HeadOutput, BothOutput])
@pytest.mark.parametrize("speech_first", [False, True])
def test_training_and_decoding_classify_alike_whatever_the_padding(
    output: type[LabelOutput], speech_first: bool
) -> None:
    """Training pads on the right and may read an answer after; decoding pads on the left."""
    model, data = build_model(output=output, speech_first=speech_first, preamble_ids=[3, 4]), batch(SER, SECONDS)
    heads = answering(model, HeadOutput([0, 3], 32))
    probs = decoded(heads, data)
    losses = []
    for row in range(3):
        one = row_of(data, row)
        torch.testing.assert_close(decoded(heads, one), probs[row : row + 1], atol=1e-5, rtol=0)
        losses.append(-float(probs[row, int(one["label"])]))
    encoded, task, label = encode(model, data), data["task"].view(-1), data["label"].view(-1)
    lengths = model.label_output.target_lengths(data["text_lengths"], label)
    spliced = model.splice_target(encoded, data["text"], lengths)
    assert bool((spliced.labels != IGNORE).any()) == model.label_output.spoken
    with torch.no_grad():
        states, _ = model.decoder(spliced.embeds, spliced.mask, spliced.position_ids)
        read = LMOutput(spliced, states, model.fusion, model.fusion.weights(encoded.prompt_summary, task))
        [asked] = model.label_output(read, task, label, 0.0)
    assert asked.loss.tolist() == pytest.approx(losses, abs=1e-5)
    assert max(losses) - min(losses) > 1e-3


def test_the_loss_of_a_head_is_the_mean_of_the_right_label_s_and_of_both_the_sum() -> None:
    both, data = build_model(output=BothOutput), batch(SER, SECONDS)
    text, head = answering(both, TextOutput([0, 3], 32)), answering(both, HeadOutput([0, 3], 32))
    with torch.no_grad():
        stats = [model(**data)[1] for model in (text, head, both)]
    expected = -decoded(head, data).gather(1, data["label"]).mean()
    assert float(stats[1]["loss_ser"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(stats[2]["loss"]) == pytest.approx(float(stats[0]["loss"] + stats[1]["loss"]), rel=1e-5)
    right = decoded(head, data).argmax(1) == data["label"][:, 0]
    assert float(stats[1]["acc"]) == float(stats[2]["acc_ser"]) == float(right.float().mean())
    product = decoded(text, data).exp() * decoded(head, data).exp()
    torch.testing.assert_close(decoded(both, data).exp(), product / product.sum(1, keepdim=True))


@pytest.mark.parametrize(("output", "speaks"), [(TextOutput, True), (HeadOutput, False), (BothOutput, True)])
def test_a_label_batch_teaches_the_head_that_answers(output: type[LabelOutput], speaks: bool) -> None:
    model = build_model(output=output)
    model(**batch(SER))[0].backward()
    assert (model.decoder.llm.get_output_embeddings().weight.grad is not None) == speaks
    heads = dict(model.label_output.named_parameters())
    assert set(heads) == (set() if output is TextOutput else {"heads.1.weight", "heads.1.bias"})
    assert all(weight.grad is not None and weight.grad.any() for weight in heads.values())
    assert all(norm.weight.grad is not None and norm.weight.grad.any() for norm in model.fusion.norms)


def test_a_text_is_asked_for_alike_whatever_labels_are_answered_with() -> None:
    data = batch((0, 0, 0))
    model = build_model(output=HeadOutput)
    with torch.no_grad():
        found = model(**data)[1]
        model.label_output = TextOutput([0, 3], 32)
        assert found == model(**data)[1]
