"""Generation: batches, beams, length and repetition limits; label probabilities as in teacher forcing."""

from __future__ import annotations

import pytest
import torch
from tiny import EOS, LLAMA, LORA, QWEN2, VOCAB, batch, build_model, encode, row_of, targets_of
from torch import Tensor

from harmonifuse_espnet.data.batch import SpeechBatch
from harmonifuse_espnet.inference.generation import RepetitionLimit, generate_text, label_log_probs
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel

SECONDS = (0.5, 0.83, 0.31, 0.7, 0.42)
TASKS = (0, 0, 0, 0, 0)
ENDLESS = {"suppress_tokens": [EOS]}  # hypotheses end at their maximum length
LABELS = [[4, EOS], [5, 6, 7, EOS], [5, 8, EOS], [9, EOS]]


@pytest.fixture(scope="module", params=[QWEN2, LLAMA], ids=["qwen2", "llama"])
def model(request: pytest.FixtureRequest) -> HarmoniFuseModel:
    return build_model(decoder={"vocab_size": VOCAB, "config": request.param})


def naive_logits(model: HarmoniFuseModel, one: SpeechBatch, hypothesis: list[int]) -> Tensor:
    """Return the logits of the token after each prefix of a hypothesis, without a cache."""
    with torch.no_grad():
        encoded = encode(model, one)
        prompt, speech = (segment.embeds for segment in encoded.segments)
        embeds = torch.cat([prompt, speech, model.decoder.embed(torch.tensor([[1, *hypothesis]]))], dim=1)
        states = model.decoder.llm.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[1:]
        fused = model.fusion(states, model.fusion.weights(encoded.prompt_summary, one.task))
        return model.decoder.head(fused)[0, -len(hypothesis) - 1 :]


def naive_greedy(model: HarmoniFuseModel, one: SpeechBatch, limit: int, eos: int) -> list[int]:
    hypothesis: list[int] = []
    while len(hypothesis) < limit:
        token = int(naive_logits(model, one, hypothesis)[-1].argmax())
        if token == eos:
            break
        hypothesis.append(token)
    return hypothesis


@pytest.mark.parametrize("eos", [EOS, 9])
def test_greedy_search_gives_the_hypotheses_of_search_without_a_cache(model: HarmoniFuseModel, eos: int) -> None:
    data = batch(TASKS, SECONDS)
    encoded = encode(model, data)
    hypotheses = generate_text(model, encoded, data.task, eos)
    limits = encoded.frame_lengths.tolist()
    assert hypotheses == [naive_greedy(model, row_of(data, row), limits[row], eos) for row in range(5)]
    assert len({tuple(tokens) for tokens in hypotheses}) > 1  # they depend on the speech


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "length_penalty": 0.5}])
def test_a_hypothesis_does_not_depend_on_the_batch(model: HarmoniFuseModel, options: dict[str, object]) -> None:
    data = batch((0, 1, 0, 1, 0), SECONDS)
    hypotheses = generate_text(model, encode(model, data), data.task, EOS, 0.5, **options)
    for row in range(5):
        one = row_of(data, row)
        assert generate_text(model, encode(model, one), one.task, EOS, 0.5, **options) == [hypotheses[row]]
    assert any(hypotheses)


def test_a_beam_as_wide_as_the_vocabulary_finds_the_most_probable_hypothesis(model: HarmoniFuseModel) -> None:
    """Hypotheses have two tokens, so that this beam search is exhaustive."""
    data = row_of(batch(), 0)
    encoded, task = encode(model, data), data.task
    ratio = 2.5 / int(encoded.frame_lengths)
    [best] = generate_text(model, encoded, task, EOS, ratio, num_beams=VOCAB, **ENDLESS)

    def score(hypothesis: list[int]) -> float:
        log_probs = naive_logits(model, data, hypothesis).log_softmax(-1)
        return float(log_probs[: len(hypothesis)].gather(-1, torch.tensor(hypothesis)[:, None]).sum())

    others = [token for token in range(VOCAB) if token != EOS]
    assert len(best) == 2
    assert score(best) == pytest.approx(max(score([a, b]) for a in others for b in others), abs=1e-4)


@pytest.mark.parametrize("ratio", [0.25, 0.6, 1.0, 0.001])
def test_the_per_utterance_maximum_length_follows_from_the_frames(model: HarmoniFuseModel, ratio: float) -> None:
    data = batch(TASKS, SECONDS)
    encoded = encode(model, data)
    hypotheses = generate_text(model, encoded, data.task, EOS, ratio, **ENDLESS)
    assert [len(tokens) for tokens in hypotheses] == [max(1, int(n * ratio)) for n in encoded.frame_lengths.tolist()]


@pytest.mark.parametrize(
    ("tokens", "forbidden"),
    [
        ([4, 4], []),
        ([9, 4, 4, 4], [4]),
        ([4, 4, 4, 9], []),
        ([4, 5, 4, 5, 4, 5], []),
        ([5, 4, 5, 4, 5, 4, 5], [4]),  # 5 4 a fourth time
        ([6, 5, 4, 5, 4, 5], []),
        ([7, 8, 9] * 3, []),  # longer sequences are not limited
    ],
)
def test_the_repetition_limit_allows_three_occurrences_in_a_row(tokens: list[int], forbidden: list[int]) -> None:
    """Sequences of up to two tokens are limited."""
    scores = RepetitionLimit(max_repeats=3, max_size=2)(
        torch.tensor([[9, *tokens], [*range(len(tokens) + 1)]]), torch.ones(2, 20)
    )
    assert scores[0].isneginf().nonzero()[:, 0].tolist() == forbidden
    assert scores[1].eq(1).all() and scores[0].isfinite().sum() == 20 - len(forbidden)


@pytest.mark.parametrize("beams", [1, 3])
def test_hypotheses_with_a_repetition_limit_do_not_exceed_it(model: HarmoniFuseModel, beams: int) -> None:
    data = batch(TASKS, SECONDS)
    encoded, task, options = encode(model, data), data.task, {**ENDLESS, "num_beams": beams}
    unlimited = generate_text(model, encoded, task, EOS, 3.0, **options)
    limited = generate_text(model, encoded, task, EOS, 3.0, logits_processor=[RepetitionLimit(2, 4)], **options)

    def repeats(tokens: list[int]) -> bool:
        spans = [(start, size) for size in range(1, 5) for start in range(len(tokens) - 3 * size + 1)]
        return any(tokens[start : start + 3 * size] == 3 * tokens[start : start + size] for start, size in spans)

    assert any(map(repeats, unlimited)) and not any(map(repeats, limited))
    assert list(map(len, limited)) == list(map(len, unlimited))


def test_hypotheses_do_not_include_the_end_of_sequence() -> None:
    model = build_model()
    with torch.no_grad():
        model.decoder.llm.get_output_embeddings().weight[EOS] = 0.0
        model.decoder.llm.get_output_embeddings().weight *= 1e-6
    data = batch()
    hypotheses = generate_text(model, encode(model, data), data.task, EOS)
    assert all(EOS not in tokens for tokens in hypotheses)
    with torch.no_grad():
        model.decoder.llm.get_output_embeddings().weight.zero_()
    assert generate_text(model, encode(model, data), data.task, 0) == [[], [], []]  # argmax of a tie is 0


def test_label_probabilities_are_those_of_teacher_forcing(model: HarmoniFuseModel) -> None:
    data = batch((1, 1, 0, 1, 1), SECONDS)
    log_probs = label_log_probs(model, encode(model, data), 1, LABELS)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))
    for row in range(5):
        scores = []
        for label in LABELS:
            one = row_of(data, row)
            target = targets_of(one)._replace(tokens=torch.tensor([label]), lengths=torch.tensor([len(label)]))
            with torch.no_grad():
                _, stats, _ = model(one._replace(targets=target))
            scores.append(-float(stats[f"loss_{'asr' if row == 2 else 'ser'}"]) * len(label))
        expected = torch.tensor(scores).log_softmax(0)
        torch.testing.assert_close(log_probs[row], expected, atol=1e-4, rtol=0)
        assert expected.max() - expected.min() > 0.1


def test_label_probabilities_do_not_depend_on_the_batch_or_the_order_of_labels(model: HarmoniFuseModel) -> None:
    data = batch((1, 1, 1, 1, 1), SECONDS)
    batched = label_log_probs(model, encode(model, data), 1, LABELS)
    for row in range(5):
        one = row_of(data, row)
        single = label_log_probs(model, encode(model, one), 1, LABELS)
        torch.testing.assert_close(batched[row : row + 1], single, atol=1e-4, rtol=0)
    reversed_labels = label_log_probs(model, encode(model, data), 1, LABELS[::-1])
    torch.testing.assert_close(reversed_labels.flip(1), batched, atol=1e-4, rtol=0)


def test_generation_does_not_add_parameters_to_the_model(model: HarmoniFuseModel) -> None:
    before = len(list(model.parameters()))
    data = batch()
    generate_text(model, encode(model, data), data.task, EOS)
    assert len(list(model.parameters())) == before


def test_a_language_model_in_bfloat16_generates_and_has_nearly_the_same_label_probabilities() -> None:
    exact, model = (build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA}) for _ in range(2))
    for weight in model.decoder.parameters():
        weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()  # as on a GPU
    data = batch((1, 1, 1, 1, 1), SECONDS)
    encoded, task = encode(model, data), data.task
    assert model.decoder.dtype == torch.bfloat16 and encoded.prompt_summary.dtype == torch.float32
    assert len(generate_text(model, encoded, task, EOS, num_beams=2)) == 5
    found = label_log_probs(model, encoded, 1, LABELS).exp()
    expected = label_log_probs(exact, encode(exact, data), 1, LABELS).exp()
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
