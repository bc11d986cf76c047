"""Joint CTC/LM decoding: CTC prefix scores are added to the language model's scores inside ``generate``.

Algorithm 2 of Watanabe et al., 2017, Hybrid CTC/Attention Architecture for End-to-End Speech Recognition. In this
module, X is the number of prefixes and R = B * beams the number of hypotheses in the search (rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from harmonifuse_espnet.inference.ctc_spelling import Spelling

LOG_ZERO = -torch.inf


@dataclass(frozen=True)
class Prefixes:
    """CTC forward variables (log-probabilities) of X prefixes; a prefix is a sequence of CTC units.

    Attributes:
        blank: Log-probability that the first t frames emit exactly the prefix and frame t a blank, t = 0 .. T
            (T + 1, X).
        unit: The same with the last unit of the prefix in frame t (T + 1, X).
        last: The last unit, 0 for the empty prefix (X,).
        utterance: Row of the prefix's utterance in the batch (X,).
        log_psi: Log-probability that all frames emit any sequence that starts with the prefix (X,).
    """

    blank: Tensor
    unit: Tensor
    last: Tensor
    utterance: Tensor
    log_psi: Tensor

    def __getitem__(self, rows: Tensor) -> Prefixes:
        """Return the prefixes with the indices ``rows`` (Y,)."""
        return Prefixes(
            self.blank[:, rows], self.unit[:, rows], self.last[rows], self.utterance[rows], self.log_psi[rows]
        )

    def replace(self, rows: Tensor, others: Prefixes) -> Prefixes:
        """Return a copy with ``others``, of the same utterances, at the indices ``rows`` (Y,)."""
        return Prefixes(
            self.blank.index_copy(1, rows, others.blank),
            self.unit.index_copy(1, rows, others.unit),
            self.last.index_copy(0, rows, others.last),
            self.utterance,
            self.log_psi.index_copy(0, rows, others.log_psi),
        )

    @property
    def log_end(self) -> Tensor:
        """Log-probability of emitting exactly the prefix in all frames (X,)."""
        return torch.logaddexp(self.blank[-1], self.unit[-1])


class CTCForward:
    """Computes the forward variables of CTC in double precision.

    Args:
        log_probs: Log-probabilities of the blank (index 0) and the units (B, T, W + 1).
        lengths: Frames of each utterance (B,). Padding counts as blanks of probability 1, which changes no result.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor) -> None:
        self.log_probs = log_probs.transpose(0, 1)
        self.padding = torch.arange(log_probs.size(1), device=lengths.device)[:, None] >= lengths

    def empty(self, utterance: Tensor) -> Prefixes:
        """Return an empty prefix for each utterance of ``utterance`` (X,)."""
        zero = torch.full((1, len(utterance)), LOG_ZERO, dtype=torch.float64, device=utterance.device)
        blank = torch.cat([zero.new_zeros(zero.shape), self._blank_log_probs(utterance).cumsum(0)])
        return Prefixes(blank, zero.expand_as(blank), torch.zeros_like(utterance), utterance, blank[0])

    def start_log_probs(self, prefixes: Prefixes, units: Tensor) -> Tensor:
        """Return the log-probability that the prefix is complete and its next unit starts at a frame (T, X).

        ``units`` (X,) are the next units; 0 has probability 0. A unit equal to the last one starts only after a blank.
        """
        return self._log_probs_before(prefixes, units) + self._unit_log_probs(prefixes.utterance, units)

    def append(self, prefixes: Prefixes, units: Tensor) -> Prefixes:
        """Append one of ``units`` (X,) to each prefix."""
        emitted = self._unit_log_probs(prefixes.utterance, units)
        starts = self._log_probs_before(prefixes, units) + emitted
        blanks = self._blank_log_probs(prefixes.utterance)
        unit = torch.full_like(prefixes.unit, LOG_ZERO)
        blank = torch.full_like(prefixes.blank, LOG_ZERO)
        for t in range(len(starts)):
            unit[t + 1] = torch.logaddexp(unit[t] + emitted[t], starts[t])
            blank[t + 1] = torch.logaddexp(blank[t], unit[t]) + blanks[t]
        return Prefixes(blank, unit, units, prefixes.utterance, starts.logsumexp(0))

    def append_sequences(self, prefixes: Prefixes, units: Tensor) -> Prefixes:
        """Append a sequence of ``units`` (X, longest), padded with 0, to each prefix."""
        for column in units.unbind(1):
            (rows,) = torch.nonzero(column, as_tuple=True)
            if len(rows):
                prefixes = prefixes.replace(rows, self.append(prefixes[rows], column[rows]))
        return prefixes

    def _log_probs_before(self, prefixes: Prefixes, units: Tensor) -> Tensor:
        """Return the log-probability that the prefix is complete before a frame and the unit may follow (T, X)."""
        blank, unit = prefixes.blank[:-1], prefixes.unit[:-1]
        return torch.where(units == prefixes.last, blank, torch.logaddexp(blank, unit))

    def _unit_log_probs(self, utterance: Tensor, units: Tensor) -> Tensor:
        log_probs = self.log_probs[:, utterance, units].double()
        return log_probs.masked_fill(self.padding[:, utterance] | (units == 0), LOG_ZERO)

    def _blank_log_probs(self, utterance: Tensor) -> Tensor:
        return self.log_probs[:, utterance, 0].double().masked_fill(self.padding[:, utterance], 0.0)


class CTCPrefixScores(LogitsProcessor):
    """Adds CTC prefix scores to the language model's scores in greedy and beam search.

    The score of a token is ``(1 - w) log p_LM + w (log psi(prefix + token) - log psi(prefix))`` with psi the CTC
    probability of all sequences that start with a prefix; for the end of sequence, psi(prefix + token) is the CTC
    probability of exactly the prefix. Summed over a hypothesis, the CTC scores are the CTC log-probability of its text.
    Each call of ``generate`` needs a new object.

    Args:
        log_probs: Log-probabilities of the CTC head, blank first (B, T, units + 1).
        lengths: Frames of each utterance (B,).
        spelling: CTC units of the language model's tokens.
        eos_id: Token id of the end of sequence.
        ctc_weight: w, above 0 and at most 1.
        candidates: Number of tokens of each row that get a CTC score: those of the highest language model score; the
            others are excluded, as with ESPnet's pre-beam.
    """

    _rows: dict[tuple[int, ...], int]  # (utterance, tokens) -> row in the last call
    _prefixes: Prefixes  # of the rows in the last call

    def __init__(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        spelling: Spelling,
        eos_id: int,
        ctc_weight: float,
        candidates: int = 128,
    ) -> None:
        self.ctc_forward = CTCForward(log_probs, lengths)
        self.batch_size, self.eos_id, self.ctc_weight = len(lengths), eos_id, ctc_weight
        device = log_probs.device
        self.initial_units = torch.tensor([spelling.initial_units], dtype=torch.long, device=device)
        self.leading_units, self.row_of_token, self.last_unit = (table.to(device) for table in spelling.tables)
        self.candidates = min(candidates, int(self.last_unit.count_nonzero()))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (R, tokens so far), ``scores`` (R, W), logits or log-probabilities -> joint scores (R, W)."""
        log_probs = scores.log_softmax(-1)
        prefixes = self._update_prefixes(input_ids)
        spelled = self.last_unit[:-1] > 0
        best = log_probs[:, : len(spelled)].masked_fill(~spelled, LOG_ZERO).topk(self.candidates).indices
        joint = torch.full_like(log_probs, LOG_ZERO)
        joint.scatter_(1, best, self._joint_scores(log_probs.gather(1, best), self._ctc_scores(prefixes, best)))
        joint[:, self.eos_id] = self._joint_scores(log_probs[:, self.eos_id], prefixes.log_end - prefixes.log_psi)
        return joint

    def _update_prefixes(self, input_ids: Tensor) -> Prefixes:
        """Append each row's last token to the prefix of its parent row; beam search reorders the rows."""
        beams = len(input_ids) // self.batch_size
        keys = [(row // beams, *tokens) for row, tokens in enumerate(input_ids.tolist())]
        if not input_ids.size(1):
            utterance = torch.arange(self.batch_size, device=input_ids.device).repeat_interleave(beams)
            prefixes = self.ctc_forward.append_sequences(
                self.ctc_forward.empty(utterance), self.initial_units.expand(len(keys), -1)
            )
        else:
            token = input_ids[:, -1].clamp(max=len(self.last_unit) - 1)
            parents = torch.tensor([self._rows[key[:-1]] for key in keys], device=input_ids.device)
            leading = self.leading_units[self.row_of_token[token]]
            extended = self.ctc_forward.append_sequences(self._prefixes[parents], leading)
            prefixes = self.ctc_forward.append(extended, self.last_unit[token])
        self._rows, self._prefixes = {key: row for row, key in enumerate(keys)}, prefixes
        return prefixes

    def _ctc_scores(self, prefixes: Prefixes, tokens: Tensor) -> Tensor:
        """Return log psi(prefix + token) - log psi(prefix) for ``tokens`` (R, K): (R, K).

        Tokens with the same leading units share forward variables; the last unit needs none.
        """
        rows, count = torch.arange(len(tokens), device=tokens.device)[:, None], len(self.leading_units)
        pairs, pair_of = torch.unique(rows * count + self.row_of_token[tokens], return_inverse=True)
        extended = self.ctc_forward.append_sequences(prefixes[pairs // count], self.leading_units[pairs % count])
        starts = self.ctc_forward.start_log_probs(extended[pair_of.flatten()], self.last_unit[tokens].flatten())
        return starts.logsumexp(0).view(tokens.shape) - prefixes.log_psi[:, None]

    def _joint_scores(self, log_probs: Tensor, ctc_scores: Tensor) -> Tensor:
        """Return the weighted sum; -inf where either score is -inf or the prefix has probability 0."""
        ctc_scores = ctc_scores.nan_to_num(nan=LOG_ZERO, neginf=LOG_ZERO).to(log_probs.dtype)
        joint = (1 - self.ctc_weight) * log_probs + self.ctc_weight * ctc_scores
        return torch.where(log_probs.isneginf(), LOG_ZERO, joint)
