"""Label outputs (generated, classified, both): the same in training and decoding, and small cases by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import EOS, batch, build_model, encode, row_of, rows_of, targets_of
from torch import Tensor, nn

from harmonifuse_espnet.data.batch import SpeechBatch
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
    """Make the output of a language model of one layer: states (B, S, V) for an input with ``labels`` and ``mask``."""
    state, valid = torch.tensor(states), torch.tensor(mask).bool()
    spliced = Spliced(torch.zeros_like(state), valid, torch.zeros_like(valid).long(), torch.tensor(labels))
    return LMOutput(spliced, [state], LastLayerFusion(LastWeights(1, 1, 1)), torch.ones(len(states), 1))


def decode(model: HarmoniFuseModel, data: SpeechBatch) -> Tensor:
    return label_log_probs(model, encode(model, data), 1, LABELS)


def with_output(model: HarmoniFuseModel, output: LabelOutput) -> HarmoniFuseModel:
    """Copy a model and replace its output, keeping the classifiers if the new one has them."""
    other = copy.deepcopy(model)
    other.label_output = output
    output.load_state_dict(model.label_output.state_dict() if isinstance(output, HeadOutput) else {})
    return other.eval()


def test_states_before_the_target_are_pooled() -> None:
    states = [[[1.0], [3.0], [90.0], [90.0]], [[90.0], [2.0], [4.0], [9.0]]]
    labels, mask = [[IGNORE, IGNORE, 7, IGNORE], [IGNORE] * 4], [[1, 1, 1, 0], [0, 1, 1, 1]]
    assert lm_output(states, labels, mask).pooled(torch.tensor([1, 0])).tolist() == [[5.0], [2.0]]


def test_each_task_is_classified_among_its_own_labels() -> None:
    output = HeadOutput([0, 2, 3], 1)
    for head in output.heads.values():
        nn.init.zeros_(head.bias)
        head.weight.data[:, 0] = torch.tensor([0.0, 1.0, 2.0])[: head.out_features]
    states = lm_output([[[5.0]], [[1.0]], [[2.0]], [[-1.0]]], [[IGNORE]] * 4, [[1]] * 4)
    two, three = output(states, rows_of([0, 2, 1, 2]), torch.tensor([-1, 2, 0, 1]), 0.0)
    assert two.row.tolist() == [2] and two.correct.tolist() == [False]
    assert two.loss.tolist() == pytest.approx([2.126928])  # log(1 + e^2)
    assert three.row.tolist() == [1, 3] and three.correct.tolist() == [True, False]
    assert three.loss.tolist() == pytest.approx([0.407606, 1.407606])  # log(1 + 1 / e + 1 / e^2), and one more


def test_a_token_is_predicted_at_the_position_before_it_and_the_accuracy_ignores_the_end_of_sequence() -> None:
    states = [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [9.0, 9.0, 9.0]], [[1.0, 0.0, 0.0]] * 3]
    output = lm_output(states, [[IGNORE, 1, 2], [IGNORE, 2, IGNORE]], [[1, 1, 1], [1, 1, 0]])
    found = predict_tokens(output, nn.Identity(), 0.0, [0])
    assert found.row.tolist() == [0, 0, 1] and found.correct.tolist() == [True, True, False]
    assert found.tasks == (0,) and found.in_accuracy.tolist() == [True, False, False]
    assert found.loss.tolist() == pytest.approx([0.551445, 0.551445, 1.551445])  # log(e + 2) - 1, and one more


def test_losses_of_tokens_and_labels_are_summed_and_the_accuracy_is_that_of_the_labels() -> None:
    yes, no = torch.tensor([True]), torch.tensor([False])
    text, label = torch.tensor([0]), torch.tensor([1])
    tokens = Predictions((2, 5), torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 4.0]), yes.repeat(3), yes.repeat(3))
    labels = Predictions((2,), label, torch.tensor([0.5]), no, yes)
    losses = loss_by_task(rows_of([5, 2]), [tokens, labels], size=2)
    assert {task: (float(loss), float(acc)) for task, (loss, acc) in losses.items()} == {2: (4.5, 0.0), 5: (2.0, 1.0)}
    assert loss_by_task(rows_of([5]), [Predictions((5,), text, torch.tensor([1.0]), no, yes)], size=1)[5].acc == 0


@pytest.mark.parametrize("output", [HeadOutput, BothOutput])
@pytest.mark.parametrize("speech_first", [False, True])
def test_training_and_decoding_have_the_same_classifier_probabilities(
    output: type[LabelOutput], speech_first: bool
) -> None:
    """Training pads on the right, and the target may follow; decoding pads on the left."""
    model, data = build_model(output=output, speech_first=speech_first, preamble_ids=[3, 4]), batch(SER, SECONDS)
    heads = with_output(model, HeadOutput([0, 3], 32))
    log_probs = decode(heads, data)
    losses = []
    for row in range(3):
        one = row_of(data, row)
        torch.testing.assert_close(decode(heads, one), log_probs[row : row + 1], atol=1e-5, rtol=0)
        losses.append(-float(log_probs[row, int(targets_of(one).label)]))
    encoded, task, label = encode(model, data), data.task, targets_of(data).label
    lengths = model.label_output.target_lengths(targets_of(data).lengths, label)
    spliced = model.splice_target(encoded, targets_of(data).tokens, lengths)
    assert bool((spliced.labels != IGNORE).any()) == model.label_output.generated
    with torch.no_grad():
        states, _ = model.decoder(spliced.embeds, spliced.mask, spliced.position_ids)
        training_output = LMOutput(spliced, states, model.fusion, model.fusion.weights(encoded.prompt_summary, task))
        [labels] = model.label_output(training_output, data.rows, label, 0.0)
    assert labels.loss.tolist() == pytest.approx(losses, abs=1e-5)
    assert max(losses) - min(losses) > 1e-3


def test_the_classifier_s_loss_is_the_cross_entropy_of_the_label_and_both_losses_are_summed() -> None:
    both, data = build_model(output=BothOutput), batch(SER, SECONDS)
    text, head = with_output(both, TextOutput([0, 3], 32)), with_output(both, HeadOutput([0, 3], 32))
    with torch.no_grad():
        stats = [model(data)[1] for model in (text, head, both)]
    expected = -decode(head, data).gather(1, targets_of(data).label[:, None]).mean()
    assert float(stats[1]["loss_ser"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(stats[2]["loss"]) == pytest.approx(float(stats[0]["loss"] + stats[1]["loss"]), rel=1e-5)
    correct = decode(head, data).argmax(1) == targets_of(data).label
    assert float(stats[1]["acc"]) == float(stats[2]["acc_ser"]) == float(correct.float().mean())
    product = decode(text, data).exp() * decode(head, data).exp()
    torch.testing.assert_close(decode(both, data).exp(), product / product.sum(1, keepdim=True))


@pytest.mark.parametrize(("output", "generated"), [(TextOutput, True), (HeadOutput, False), (BothOutput, True)])
def test_gradients_of_a_label_batch_reach_the_heads_that_predict_labels(
    output: type[LabelOutput], generated: bool
) -> None:
    model = build_model(output=output)
    model(batch(SER))[0].backward()
    assert (model.decoder.llm.get_output_embeddings().weight.grad is not None) == generated
    heads = dict(model.label_output.named_parameters())
    assert set(heads) == (set() if output is TextOutput else {"heads.1.weight", "heads.1.bias"})
    assert all(weight.grad is not None and weight.grad.any() for weight in heads.values())
    assert all(norm.weight.grad is not None and norm.weight.grad.any() for norm in model.fusion.norms)


def test_the_loss_of_a_text_task_does_not_depend_on_the_label_output() -> None:
    data = batch((0, 0, 0))
    model = build_model(output=HeadOutput)
    with torch.no_grad():
        found = model(data)[1]
        model.label_output = TextOutput([0, 3], 32)
        assert found == model(data)[1]
