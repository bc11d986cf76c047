"""CTC prefix scores: sums over all alignments, known cases, batches, beams, and search with ``generate``."""

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
ONE_UNIT = Spelling([() if token == EOS else (token + 1,) for token in range(VOCAB)])


def posterior(frames: int, units: int = 2, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    """Return random log-probabilities (1, T, units + 1)."""
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(1, frames, units + 1, generator=generator).double()).log_softmax(-1)


def sequence_probs(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """Return every unit sequence of T frames -> its probability, the sum over all its alignments."""
    found: dict[tuple[int, ...], float] = {}
    probs = log_probs[0].double().exp()
    for path in product(range(probs.size(1)), repeat=len(probs)):
        merged = [unit for t, unit in enumerate(path) if unit and (t == 0 or path[t - 1] != unit)]
        prob = float(probs[torch.arange(len(probs)), torch.tensor(path)].prod())
        found[tuple(merged)] = found.get(tuple(merged), 0.0) + prob
    return found


def prefix_probs(log_probs: Tensor, units: Sequence[int], length: int | None = None) -> tuple[float, float]:
    """Return the probability of all sequences that start with ``units``, and of exactly ``units``."""
    forward = CTCForward(log_probs, torch.tensor([length or log_probs.size(1)]))
    prefix = forward.append_sequences(forward.empty(torch.tensor([0])), torch.tensor([list(units)], dtype=torch.long))
    return float(prefix.log_psi.exp()), float(prefix.log_end.exp())


def ctc_scores(log_probs: Tensor, *hypotheses: Sequence[int], lengths: Sequence[int] | None = None) -> Tensor:
    """Return the CTC scores (rows, W) of the token after each hypothesis; all hypotheses have the same length."""
    frames = torch.tensor(lengths or [log_probs.size(1)] * len(log_probs))
    processor = CTCPrefixScores(log_probs, frames, SPELLING, EOS, ctc_weight=1.0)
    tokens = torch.tensor(hypotheses, dtype=torch.long)
    for length in range(tokens.size(1) + 1):
        scores = processor(tokens[:, :length], torch.zeros(len(tokens), VOCAB))
    return scores


def test_prefix_and_sequence_probabilities_are_sums_over_alignments() -> None:
    for seed in range(3):
        log_probs = posterior(5, seed=seed)
        probs = sequence_probs(log_probs)
        for length in range(4):
            for units in product((1, 2), repeat=length):
                psi = sum(prob for sequence, prob in probs.items() if sequence[:length] == units)
                assert prefix_probs(log_probs, units) == pytest.approx((psi, probs.get(units, 0.0)), abs=1e-12)


def test_probabilities_of_sequences_of_one_unit() -> None:
    """Blank and unit have 0.5. Two frames: (1, 1), (1, blank), (blank, 1) are one unit; two units need three frames."""
    log_probs = torch.tensor([[[0.5, 0.5]] * 3]).log()
    assert prefix_probs(log_probs, [], 2) == pytest.approx((1.0, 0.25))
    assert prefix_probs(log_probs, [1], 2) == pytest.approx((0.75, 0.75))
    assert prefix_probs(log_probs, [1, 1], 2) == (0.0, 0.0)
    assert prefix_probs(log_probs, [1], 3) == pytest.approx((0.875, 0.75))
    assert prefix_probs(log_probs, [1, 1], 3) == pytest.approx((0.125, 0.125))


def test_the_log_probability_of_a_sequence_is_pytorch_s_ctc_loss() -> None:
    log_probs, target = posterior(200, units=6, seed=3), torch.tensor([[1, 2, 2, 6, 3, 1, 1]])
    loss = torch.nn.functional.ctc_loss(
        log_probs.double().transpose(0, 1), target, torch.tensor([200]), torch.tensor([7]), reduction="sum"
    )
    forward = CTCForward(log_probs, torch.tensor([200]))
    prefix = forward.append_sequences(forward.empty(torch.tensor([0])), target)
    assert float(prefix.log_end) == pytest.approx(-float(loss))


def test_scores_are_ratios_of_prefix_probabilities() -> None:
    log_probs = posterior(5)
    psi, exact = prefix_probs(log_probs, [1, 2])
    [scores] = ctc_scores(log_probs, [A, B]).exp()
    assert float(scores[A]) == pytest.approx(prefix_probs(log_probs, [1, 2, 1])[0] / psi, rel=1e-5)
    assert float(scores[AAB]) == pytest.approx(prefix_probs(log_probs, [1, 2, 1, 1, 2])[0] / psi, rel=1e-5)
    assert float(scores[EOS]) == pytest.approx(exact / psi, rel=1e-5)
    assert float(scores[[EOS, A, B]].sum()) == pytest.approx(1.0, abs=1e-6)  # all continuations start with one of them
    assert scores.nonzero()[:, 0].tolist() == [EOS, A, B, AB]  # AAB needs more frames than there are


def test_a_token_of_several_units_scores_as_the_sequence_of_its_units() -> None:
    log_probs = posterior(9)
    first, second = ctc_scores(log_probs, []), ctc_scores(log_probs, [A])
    assert float(first[0, AB]) == pytest.approx(float(first[0, A] + second[0, B]), abs=1e-5)
    torch.testing.assert_close(ctc_scores(log_probs, [AB, A]), ctc_scores(log_probs, [A, B, A]))
    torch.testing.assert_close(ctc_scores(log_probs, [AAB]), ctc_scores(log_probs, [A, A, B]))


def test_the_initial_units_precede_the_first_token() -> None:
    log_probs = posterior(7)
    processor = CTCPrefixScores(log_probs, torch.tensor([7]), replace(SPELLING, initial_units=(2,)), EOS, 1.0)
    scores = processor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, VOCAB))
    torch.testing.assert_close(scores, ctc_scores(log_probs, [B]))


def test_the_scores_of_an_utterance_do_not_depend_on_the_batch() -> None:
    lengths = [6, 9, 4]
    log_probs = torch.cat([posterior(9, seed=seed) for seed in range(3)])  # the padding is random as well
    hypotheses = [[AB, A], [B, A], [A, B]]
    batched = ctc_scores(log_probs, *hypotheses, lengths=lengths)
    for row, length in enumerate(lengths):
        single = ctc_scores(log_probs[row : row + 1, :length], hypotheses[row])
        torch.testing.assert_close(batched[row : row + 1], single)


def test_prefixes_follow_the_search_when_it_reorders_its_rows() -> None:
    log_probs = torch.cat([posterior(8, seed=0), posterior(8, seed=1)])
    processor = CTCPrefixScores(log_probs, torch.tensor([8, 8]), SPELLING, EOS, 1.0)
    flat = torch.zeros(4, VOCAB)
    for rows in ([[], [], [], []], [[A], [B], [AB], [A]], [[B, A], [B, B], [A, B], [AB, A]]):
        scores = processor(torch.tensor(rows, dtype=torch.long), flat)
    for row, tokens in enumerate(rows):
        torch.testing.assert_close(scores[row : row + 1], ctc_scores(log_probs[row // 2 : row // 2 + 1], tokens))


def test_joint_scores_are_weighted_sums_and_minus_infinity_if_either_score_is() -> None:
    log_probs, lm = posterior(5), torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(1))
    lm[0, B] = -torch.inf
    processor = CTCPrefixScores(log_probs, torch.tensor([5]), SPELLING, EOS, ctc_weight=0.3)
    joint = processor(torch.zeros(1, 0, dtype=torch.long), lm)
    expected = 0.7 * lm.log_softmax(-1) + 0.3 * ctc_scores(log_probs, [])
    torch.testing.assert_close(joint, expected)
    assert joint[0].isfinite().nonzero()[:, 0].tolist() == [EOS, A, AB, AAB]  # without B, -inf for the language model
    ctc_only = CTCPrefixScores(log_probs, torch.tensor([5]), SPELLING, EOS, ctc_weight=1.0)
    assert not ctc_only(torch.zeros(1, 0, dtype=torch.long), lm).isnan().any()


def test_hypotheses_without_a_spelling_or_enough_frames_cannot_be_continued() -> None:
    for tokens in ([LABEL], [EOS], [AAB, AAB], [VOCAB - 1]):  # as in rows of beam search that have ended
        assert ctc_scores(posterior(4), tokens).eq(-torch.inf).all()


def test_only_the_best_tokens_of_the_language_model_get_a_ctc_score() -> None:
    lm = torch.arange(VOCAB).float().expand(1, -1)  # those with a spelling are AAB, AB, B and A, in this order
    processor = CTCPrefixScores(posterior(6), torch.tensor([6]), SPELLING, EOS, 0.5, candidates=2)
    scores = processor(torch.zeros(1, 0, dtype=torch.long), lm)
    assert scores[0].isfinite().nonzero()[:, 0].tolist() == [EOS, AB, AAB]


def encode_with_ctc(log_probs: Tensor, frames: Sequence[int]) -> tuple[EncoderOutput, Tensor]:
    """Return the encoder output of a random model with other CTC log-probabilities, and the tasks."""
    data = batch((0,) * len(frames), (0.5, 0.8, 0.61)[: len(frames)])
    encoded = encode(build_model(), data)
    return replace(encoded, ctc_log_probs=log_probs, frame_lengths=torch.tensor(frames)), data.task


def search(encoded: EncoderOutput, task: Tensor, weight: float, spelling: Spelling = SPELLING, beams: int = 1) -> list:
    assert encoded.ctc_log_probs is not None
    processor = CTCPrefixScores(encoded.ctc_log_probs, encoded.frame_lengths, spelling, EOS, weight)
    options = {"num_beams": beams, "length_penalty": 0.0} if beams > 1 else {}
    return generate_text(build_model(), encoded, task, EOS, logits_processor=[processor], **options)


def test_search_with_ctc_alone_finds_the_most_probable_sequence_where_the_greedy_path_does_not() -> None:
    greedy_errors = 0
    for seed in range(6):
        log_probs = posterior(7, seed=seed, sharpness=0.7)
        probs = sequence_probs(log_probs)
        [found] = search(*encode_with_ctc(log_probs, [7]), 1.0, Spelling(SPELLING.tokens[:6]), beams=8)
        best = max(probs, key=lambda sequence: probs[sequence])
        assert tuple(token - 3 for token in found) == best
        path = torch.unique_consecutive(log_probs[0].argmax(-1))
        greedy_errors += tuple(path[path > 0].tolist()) != best
    assert greedy_errors


def test_hypotheses_do_not_depend_on_the_batch() -> None:
    frames = [7, 12, 9]
    log_probs = torch.cat([posterior(12, seed=seed) for seed in range(7, 10)])
    encoded, task = encode_with_ctc(log_probs, frames)
    for weight, beams in product((0.3, 0.9), (1, 4)):  # at 1.0, different tokens for the same text tie
        batched = search(encoded, task, weight, beams=beams)
        assert len({tuple(tokens) for tokens in batched}) > 1
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
            assert search(one, task[:1], weight, beams=beams) == [batched[row]]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_ctc_weight_close_to_0_gives_the_language_model_s_hypotheses(beams: int) -> None:
    encoded, task = encode_with_ctc(torch.cat([posterior(40, VOCAB, seed) for seed in range(2)]), [40, 40])
    options = {"num_beams": beams, "length_penalty": 0.0} if beams > 1 else {}
    encoded = replace(encoded, frame_lengths=torch.tensor([40, 33]))
    processor = CTCPrefixScores(encoded.ctc_log_probs, encoded.frame_lengths, ONE_UNIT, EOS, 1e-9)
    lm_only = generate_text(build_model(), encoded, task, EOS, 0.25, **options)
    joint = generate_text(build_model(), encoded, task, EOS, 0.25, logits_processor=[processor], **options)
    assert joint == lm_only and any(lm_only)
