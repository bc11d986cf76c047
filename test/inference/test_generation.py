"""Answers: by batch, by beam, with a cache and without, and every label by teacher forcing."""

from __future__ import annotations

import pytest
import torch
from tiny import EOS, LLAMA, LORA, QWEN2, VOCAB, batch, build_model, encode, row_of
from torch import Tensor

from harmonifuse_espnet.inference.generation import RepetitionLimit, generate_text, label_log_probs
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel

SECONDS = (0.5, 0.83, 0.31, 0.7, 0.42)
TASKS = (0, 0, 0, 0, 0)
ENDLESS = {"suppress_tokens": [EOS]}  # answers end at their limit
LABELS = [[4, EOS], [5, 6, 7, EOS], [5, 8, EOS], [9, EOS]]


@pytest.fixture(scope="module", params=[QWEN2, LLAMA], ids=["qwen2", "llama"])
def model(request: pytest.FixtureRequest) -> HarmoniFuseModel:
    return build_model(decoder={"vocab_size": VOCAB, "config": request.param})


def naive_logits(model: HarmoniFuseModel, one: dict[str, Tensor], answer: list[int]) -> Tensor:
    """Logits of what follows each prefix of an answer to one utterance: everything is read anew, nothing is cached."""
    task = one["task"].view(-1)
    with torch.no_grad():
        encoded = encode(model, one)
        prompt, speech = (segment.embeds for segment in encoded.segments)
        embeds = torch.cat([prompt, speech, model.decoder.embed(torch.tensor([[1, *answer]]))], dim=1)
        states = model.decoder.llm.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[1:]
        fused = model.fusion(states, model.fusion.weights(encoded.prompt_summary, task))
        return model.decoder.head(fused)[0, -len(answer) - 1 :]


def naive_greedy(model: HarmoniFuseModel, one: dict[str, Tensor], limit: int, eos: int) -> list[int]:
    answer: list[int] = []
    while len(answer) < limit:
        token = int(naive_logits(model, one, answer)[-1].argmax())
        if token == eos:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("eos", [EOS, 9])
def test_greedy_answers_are_those_of_reading_everything_anew(model: HarmoniFuseModel, eos: int) -> None:
    data = batch(TASKS, SECONDS)
    encoded = encode(model, data)
    answers = generate_text(model, encoded, data["task"].view(-1), eos)
    limits = encoded.frame_lengths.tolist()
    assert answers == [naive_greedy(model, row_of(data, row), limits[row], eos) for row in range(5)]
    assert len({tuple(answer) for answer in answers}) > 1  # speech is encoded


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "length_penalty": 0.5}])
def test_an_answer_does_not_depend_on_its_batch(model: HarmoniFuseModel, options: dict[str, object]) -> None:
    data = batch((0, 1, 0, 1, 0), SECONDS)
    answers = generate_text(model, encode(model, data), data["task"].view(-1), EOS, 0.5, **options)
    for row in range(5):
        one = row_of(data, row)
        assert generate_text(model, encode(model, one), one["task"].view(-1), EOS, 0.5, **options) == [answers[row]]
    assert any(answers)


def test_beams_find_answers_that_are_no_less_probable(model: HarmoniFuseModel) -> None:
    """Two tokens that no end cuts off: a beam as wide as the vocabulary is an exhaustive search."""
    data = row_of(batch(), 0)
    encoded, task = encode(model, data), data["task"].view(-1)
    ratio = 2.5 / int(encoded.frame_lengths)
    [best] = generate_text(model, encoded, task, EOS, ratio, num_beams=VOCAB, **ENDLESS)

    def score(answer: list[int]) -> float:
        log_probs = naive_logits(model, data, answer).log_softmax(-1)
        return float(log_probs[: len(answer)].gather(-1, torch.tensor(answer)[:, None]).sum())

    others = [token for token in range(VOCAB) if token != EOS]
    assert len(best) == 2
    assert score(best) == pytest.approx(max(score([a, b]) for a in others for b in others), abs=1e-4)


@pytest.mark.parametrize("ratio", [0.25, 0.6, 1.0, 0.001])
def test_each_answer_has_the_limit_of_its_own_frames(model: HarmoniFuseModel, ratio: float) -> None:
    data = batch(TASKS, SECONDS)
    encoded = encode(model, data)
    answers = generate_text(model, encoded, data["task"].view(-1), EOS, ratio, **ENDLESS)
    assert [len(answer) for answer in answers] == [max(1, int(n * ratio)) for n in encoded.frame_lengths.tolist()]


@pytest.mark.parametrize(
    ("said", "forbidden"),
    [
        ([4, 4], []),
        ([9, 4, 4, 4], [4]),
        ([4, 4, 4, 9], []),
        ([4, 5, 4, 5, 4, 5], []),
        ([5, 4, 5, 4, 5, 4, 5], [4]),  # 5 4 a fourth time
        ([6, 5, 4, 5, 4, 5], []),
        ([7, 8, 9] * 3, []),  # longer loops are not watched
    ],
)
def test_what_was_said_three_times_in_a_row_is_not_said_again(said: list[int], forbidden: list[int]) -> None:
    """At most three times, sequences of up to two tokens."""
    scores = RepetitionLimit(max_repeats=3, max_loop=2)(
        torch.tensor([[9, *said], [*range(len(said) + 1)]]), torch.ones(2, 20)
    )
    assert scores[0].isneginf().nonzero()[:, 0].tolist() == forbidden
    assert scores[1].eq(1).all() and scores[0].isfinite().sum() == 20 - len(forbidden)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_guarded_answer_does_not_run_in_circles(model: HarmoniFuseModel, beams: int) -> None:
    data = batch(TASKS, SECONDS)
    encoded, task, options = encode(model, data), data["task"].view(-1), {**ENDLESS, "num_beams": beams}
    free = generate_text(model, encoded, task, EOS, 3.0, **options)
    guarded = generate_text(model, encoded, task, EOS, 3.0, logits_processor=[RepetitionLimit(2, 4)], **options)

    def circles(answer: list[int]) -> bool:
        spans = [(start, size) for size in range(1, 5) for start in range(len(answer) - 3 * size + 1)]
        return any(answer[start : start + 3 * size] == 3 * answer[start : start + size] for start, size in spans)

    assert any(map(circles, free)) and not any(map(circles, guarded))
    assert list(map(len, guarded)) == list(map(len, free))


def test_answers_end_before_the_end_of_sequence() -> None:
    model = build_model()
    with torch.no_grad():
        model.decoder.llm.get_output_embeddings().weight[EOS] = 0.0
        model.decoder.llm.get_output_embeddings().weight *= 1e-6
    data = batch()
    answers = generate_text(model, encode(model, data), data["task"].view(-1), EOS)
    assert all(EOS not in answer for answer in answers)
    with torch.no_grad():
        model.decoder.llm.get_output_embeddings().weight.zero_()
    assert generate_text(model, encode(model, data), data["task"].view(-1), 0) == [[], [], []]  # argmax of a tie is 0


def test_labels_are_scored_as_teacher_forcing_scores_them(model: HarmoniFuseModel) -> None:
    data = batch((1, 1, 0, 1, 1), SECONDS)
    log_probs = label_log_probs(model, encode(model, data), data["task"].view(-1), LABELS)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))
    for row in range(5):
        scores = []
        for label in LABELS:
            one = row_of(data, row)
            answer = {"text": torch.tensor([label]), "text_lengths": torch.tensor([len(label)])}
            with torch.no_grad():
                scores.append(
                    -float(model(**{**one, **answer})[1][f"loss_{'asr' if row == 2 else 'ser'}"]) * len(label)
                )
        expected = torch.tensor(scores).log_softmax(0)
        torch.testing.assert_close(log_probs[row], expected, atol=1e-4, rtol=0)
        assert expected.max() - expected.min() > 0.1


def test_labels_of_one_utterance_do_not_depend_on_the_others(model: HarmoniFuseModel) -> None:
    data = batch((1, 1, 1, 1, 1), SECONDS)
    together = label_log_probs(model, encode(model, data), data["task"].view(-1), LABELS)
    for row in range(5):
        one = row_of(data, row)
        alone = label_log_probs(model, encode(model, one), one["task"].view(-1), LABELS)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)
    swapped = label_log_probs(model, encode(model, data), data["task"].view(-1), LABELS[::-1])
    torch.testing.assert_close(swapped.flip(1), together, atol=1e-4, rtol=0)


def test_the_model_s_parameters_stay_in_one_place(model: HarmoniFuseModel) -> None:
    before = len(list(model.parameters()))
    data = batch()
    generate_text(model, encode(model, data), data["task"].view(-1), EOS)
    assert len(list(model.parameters())) == before


def test_a_language_model_held_in_bfloat16_answers_and_scores_alike() -> None:
    exact, model = (build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA}) for _ in range(2))
    for weight in model.decoder.parameters():
        weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()  # as on a GPU
    data = batch((1, 1, 1, 1, 1), SECONDS)
    encoded, task = encode(model, data), data["task"].view(-1)
    assert model.decoder.dtype == torch.bfloat16 and encoded.prompt_summary.dtype == torch.float32
    assert len(generate_text(model, encoded, task, EOS, num_beams=2)) == 5
    found = label_log_probs(model, encoded, task, LABELS).exp()
    expected = label_log_probs(exact, encode(exact, data), task, LABELS).exp()
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
