"""CTC prefix scores: against the sum over all alignments, by hand, by batch, by beam, and inside ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch
from tiny import EOS, VOCAB, batch, build_model, encode
from torch import Tensor

from harmonifuse_espnet.inference.ctc_prefix import CTCForward, CTCPrefixScores
from harmonifuse_espnet.inference.ctc_spelling import Spelling
from harmonifuse_espnet.inference.generation import generate_text
from harmonifuse_espnet.model.harmonifuse import EncoderOutput

A, B, AB, AAB, LABEL = 4, 5, 6, 7, 8  # tokens of the language model
SPELLING = Spelling([(), (), (), (), (1,), (2,), (1, 2), (1, 1, 2), *[()] * (VOCAB - 8)])
LIKE_CTC = Spelling([() if token == EOS else (token + 1,) for token in range(VOCAB)])


def posterior(frames: int, units: int = 2, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    """Random log-probabilities (1, T, units + 1)."""
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(1, frames, units + 1, generator=generator).double()).log_softmax(-1)


def texts(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """Every text that T frames may say -> its probability, the sum over all its alignments."""
    found: dict[tuple[int, ...], float] = {}
    probs = log_probs[0].double().exp()
    for path in product(range(probs.size(1)), repeat=len(probs)):
        merged = [unit for t, unit in enumerate(path) if unit and (t == 0 or path[t - 1] != unit)]
        chance = float(probs[torch.arange(len(probs)), torch.tensor(path)].prod())
        found[tuple(merged)] = found.get(tuple(merged), 0.0) + chance
    return found


def spell(log_probs: Tensor, units: Sequence[int], length: int | None = None) -> tuple[float, float]:
    """Probability that the speech begins with units, and that it says them and nothing more."""
    forward = CTCForward(log_probs, torch.tensor([length or log_probs.size(1)]))
    prefix = forward.spell(forward.empty(torch.tensor([0])), torch.tensor([list(units)], dtype=torch.long))
    return float(prefix.log_psi.exp()), float(prefix.log_end.exp())


def gains(log_probs: Tensor, *answers: Sequence[int], lengths: Sequence[int] | None = None) -> Tensor:
    """Scores (rows, W) of what follows answers of the same length, by CTC alone, one row or more an utterance."""
    frames = torch.tensor(lengths or [log_probs.size(1)] * len(log_probs))
    processor = CTCPrefixScores(log_probs, frames, SPELLING, EOS, ctc_weight=1.0)
    tokens = torch.tensor(answers, dtype=torch.long)
    for size in range(tokens.size(1) + 1):
        scores = processor(tokens[:, :size], torch.zeros(len(tokens), VOCAB))
    return scores


def test_prefixes_and_whole_texts_have_the_sum_over_their_alignments() -> None:
    for seed in range(3):
        log_probs = posterior(5, seed=seed)
        probs = texts(log_probs)
        for size in range(4):
            for units in product((1, 2), repeat=size):
                begins = sum(chance for text, chance in probs.items() if text[:size] == units)
                assert spell(log_probs, units) == pytest.approx((begins, probs.get(units, 0.0)), abs=1e-12)


def test_by_hand() -> None:
    """Two frames of blank 0.5 and unit 0.5 say it by (1, 1), (1, blank), (blank, 1); twice takes three frames."""
    log_probs = torch.tensor([[[0.5, 0.5]] * 3]).log()
    assert spell(log_probs, [], 2) == pytest.approx((1.0, 0.25))
    assert spell(log_probs, [1], 2) == pytest.approx((0.75, 0.75))
    assert spell(log_probs, [1, 1], 2) == (0.0, 0.0)
    assert spell(log_probs, [1], 3) == pytest.approx((0.875, 0.75))
    assert spell(log_probs, [1, 1], 3) == pytest.approx((0.125, 0.125))


def test_a_text_of_many_frames_has_pytorch_s_ctc_loss() -> None:
    log_probs, target = posterior(200, units=6, seed=3), torch.tensor([[1, 2, 2, 6, 3, 1, 1]])
    loss = torch.nn.functional.ctc_loss(
        log_probs.double().transpose(0, 1), target, torch.tensor([200]), torch.tensor([7]), reduction="sum"
    )
    forward = CTCForward(log_probs, torch.tensor([200]))
    assert float(forward.spell(forward.empty(torch.tensor([0])), target).log_end) == pytest.approx(-float(loss))


def test_gains_are_ratios_of_prefix_probabilities() -> None:
    log_probs = posterior(5)
    psi, exact = spell(log_probs, [1, 2])
    [scores] = gains(log_probs, [A, B]).exp()
    assert float(scores[A]) == pytest.approx(spell(log_probs, [1, 2, 1])[0] / psi, rel=1e-5)
    assert float(scores[AAB]) == pytest.approx(spell(log_probs, [1, 2, 1, 1, 2])[0] / psi, rel=1e-5)
    assert float(scores[EOS]) == pytest.approx(exact / psi, rel=1e-5)
    assert float(scores[[EOS, A, B]].sum()) == pytest.approx(1.0, abs=1e-6)  # what follows is one of them
    assert scores.nonzero()[:, 0].tolist() == [EOS, A, B, AB]  # two A and a B have no frames left


def test_a_token_of_several_units_is_those_units_one_after_another() -> None:
    log_probs = posterior(9)
    first, rest = gains(log_probs, []), gains(log_probs, [A])
    assert float(first[0, AB]) == pytest.approx(float(first[0, A] + rest[0, B]), abs=1e-5)
    torch.testing.assert_close(gains(log_probs, [AB, A]), gains(log_probs, [A, B, A]))
    torch.testing.assert_close(gains(log_probs, [AAB]), gains(log_probs, [A, A, B]))


def test_an_opening_is_heard_before_the_first_token() -> None:
    log_probs = posterior(7)
    processor = CTCPrefixScores(log_probs, torch.tensor([7]), replace(SPELLING, opening=(2,)), EOS, 1.0)
    opened = processor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, VOCAB))
    torch.testing.assert_close(opened, gains(log_probs, [B]))


def test_an_utterance_s_scores_do_not_depend_on_the_batch() -> None:
    lengths = [6, 9, 4]
    log_probs = torch.cat([posterior(9, seed=seed) for seed in range(3)])  # later frames hold something, too
    answers = [[AB, A], [B, A], [A, B]]
    together = gains(log_probs, *answers, lengths=lengths)
    for row, length in enumerate(lengths):
        alone = gains(log_probs[row : row + 1, :length], answers[row])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_rows_that_the_search_has_reordered_find_their_prefixes() -> None:
    log_probs = torch.cat([posterior(8, seed=0), posterior(8, seed=1)])
    processor = CTCPrefixScores(log_probs, torch.tensor([8, 8]), SPELLING, EOS, 1.0)
    flat = torch.zeros(4, VOCAB)
    for rows in ([[], [], [], []], [[A], [B], [AB], [A]], [[B, A], [B, B], [A, B], [AB, A]]):
        scores = processor(torch.tensor(rows, dtype=torch.long), flat)
    for row, answer in enumerate(rows):
        torch.testing.assert_close(scores[row : row + 1], gains(log_probs[row // 2 : row // 2 + 1], answer))


def test_both_judge_by_their_weight_and_either_may_forbid() -> None:
    log_probs, lm = posterior(5), torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(1))
    lm[0, B] = -torch.inf
    processor = CTCPrefixScores(log_probs, torch.tensor([5]), SPELLING, EOS, ctc_weight=0.3)
    joint = processor(torch.zeros(1, 0, dtype=torch.long), lm)
    expected = 0.7 * lm.log_softmax(-1) + 0.3 * gains(log_probs, [])
    torch.testing.assert_close(joint, expected)
    assert joint[0].isfinite().nonzero()[:, 0].tolist() == [EOS, A, AB, AAB]  # B by the language model, others by CTC
    alone = CTCPrefixScores(log_probs, torch.tensor([5]), SPELLING, EOS, ctc_weight=1.0)
    assert not alone(torch.zeros(1, 0, dtype=torch.long), lm).isnan().any()


def test_after_what_cannot_be_said_nothing_can() -> None:
    for answer in ([LABEL], [EOS], [AAB, AAB], [VOCAB - 1]):  # the search fills its rows with such
        assert gains(posterior(4), answer).eq(-torch.inf).all()


def test_only_the_language_model_s_best_tokens_are_judged() -> None:
    lm = torch.arange(VOCAB).float().expand(1, -1)  # the best have no spelling: AAB, AB and B are next
    processor = CTCPrefixScores(posterior(6), torch.tensor([6]), SPELLING, EOS, 0.5, candidates=2)
    scores = processor(torch.zeros(1, 0, dtype=torch.long), lm)
    assert scores[0].isfinite().nonzero()[:, 0].tolist() == [EOS, AB, AAB]


def heard_as(log_probs: Tensor, frames: Sequence[int]) -> tuple[EncoderOutput, Tensor]:
    """What a random model hears, but by CTC."""
    data = batch((0,) * len(frames), (0.5, 0.8, 0.61)[: len(frames)])
    encoded = encode(build_model(), data)
    return replace(encoded, ctc_log_probs=log_probs, frame_lengths=torch.tensor(frames)), data["task"].view(-1)


def answer(encoded: EncoderOutput, task: Tensor, weight: float, spelling: Spelling = SPELLING, beams: int = 1) -> list:
    assert encoded.ctc_log_probs is not None
    guide = CTCPrefixScores(encoded.ctc_log_probs, encoded.frame_lengths, spelling, EOS, weight)
    options = {"num_beams": beams, "length_penalty": 0.0} if beams > 1 else {}
    return generate_text(build_model(), encoded, task, EOS, logits_processor=[guide], **options)


def test_a_search_by_ctc_alone_finds_the_most_probable_text_where_the_best_path_does_not() -> None:
    wrong = 0
    for seed in range(6):
        log_probs = posterior(7, seed=seed, sharpness=0.7)
        probs = texts(log_probs)
        [found] = answer(*heard_as(log_probs, [7]), 1.0, Spelling(SPELLING.tokens[:6]), beams=8)
        best = max(probs, key=lambda text: probs[text])
        assert tuple(token - 3 for token in found) == best
        path = torch.unique_consecutive(log_probs[0].argmax(-1))
        wrong += tuple(path[path > 0].tolist()) != best
    assert wrong


def test_answers_of_a_batch_are_those_of_its_utterances() -> None:
    frames = [7, 12, 9]
    log_probs = torch.cat([posterior(12, seed=seed) for seed in range(7, 10)])
    encoded, task = heard_as(log_probs, frames)
    for weight, beams in product((0.3, 0.9), (1, 4)):  # at 1.0 different tokens for the same text are even
        together = answer(encoded, task, weight, beams=beams)
        assert len({tuple(tokens) for tokens in together}) > 1
        for row in range(3):
            segments = [
                replace(s, embeds=s.embeds[row : row + 1], mask=s.mask[row : row + 1]) for s in encoded.segments
            ]
            one = replace(
                encoded,
                segments=segments,
                prompt_summary=encoded.prompt_summary[row : row + 1],
                frame_lengths=encoded.frame_lengths[row : row + 1],
                ctc_log_probs=log_probs[row : row + 1, : frames[row]],
            )
            assert answer(one, task[:1], weight, beams=beams) == [together[row]]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_weight_of_nearly_nothing_changes_nothing(beams: int) -> None:
    encoded, task = heard_as(torch.cat([posterior(40, VOCAB, seed) for seed in range(2)]), [40, 40])
    options = {"num_beams": beams, "length_penalty": 0.0} if beams > 1 else {}
    encoded = replace(encoded, frame_lengths=torch.tensor([40, 33]))
    guide = CTCPrefixScores(encoded.ctc_log_probs, encoded.frame_lengths, LIKE_CTC, EOS, 1e-9)
    alone = generate_text(build_model(), encoded, task, EOS, 0.25, **options)
    assert generate_text(build_model(), encoded, task, EOS, 0.25, logits_processor=[guide], **options) == alone
    assert any(alone)
