"""Joint CTC/LM search: CTC prefix probabilities added to the language model's scores inside ``generate``.

After Watanabe et al., 2017, Hybrid CTC/Attention Architecture for End-to-End Speech Recognition, algorithm 2. Here X
counts prefixes, R = B * beams the rows of the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from harmonifuse_espnet.inference.ctc_spelling import Spelling

NEVER = -torch.inf


@dataclass(frozen=True)
class Prefixes:
    """Log-probabilities of X unit sequences as the beginning of what CTC hears.

    Attributes:
        blank: That the first t frames say the prefix and end in a blank, t = 0 .. T (T + 1, X).
        unit: The same, ending in the prefix's last unit (T + 1, X).
        last: The last unit, 0 for the empty prefix (X,).
        utterance: Row of each in the batch (X,).
        log_psi: That all of the speech says the prefix and anything after it (X,).
    """

    blank: Tensor
    unit: Tensor
    last: Tensor
    utterance: Tensor
    log_psi: Tensor

    def __getitem__(self, rows: Tensor) -> Prefixes:
        """Some of them, by index (Y,)."""
        return Prefixes(
            self.blank[:, rows], self.unit[:, rows], self.last[rows], self.utterance[rows], self.log_psi[rows]
        )

    def replaced(self, rows: Tensor, others: Prefixes) -> Prefixes:
        """Those at index ``rows`` (Y,) in exchange for ``others``."""
        return Prefixes(
            self.blank.index_copy(1, rows, others.blank),
            self.unit.index_copy(1, rows, others.unit),
            self.last.index_copy(0, rows, others.last),
            self.utterance,
            self.log_psi.index_copy(0, rows, others.log_psi),
        )

    @property
    def log_end(self) -> Tensor:
        """That all of the speech says the prefix and nothing more (X,)."""
        return torch.logaddexp(self.blank[-1], self.unit[-1])


class CTCForward:
    """CTC's forward variables, in double precision.

    Args:
        log_probs: Of blank (index 0) and units (B, T, W + 1).
        lengths: Frames of each utterance (B,). Later ones are blank for sure, which changes no probability.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor) -> None:
        self.log_probs = log_probs.transpose(0, 1)
        self.past = torch.arange(log_probs.size(1), device=lengths.device)[:, None] >= lengths

    def empty(self, utterance: Tensor) -> Prefixes:
        """Nothing said yet: ``utterance`` (X,) -> X prefixes."""
        never = torch.full((1, len(utterance)), NEVER, dtype=torch.float64, device=utterance.device)
        blank = torch.cat([never.new_zeros(never.shape), self._blank(utterance).cumsum(0)])
        return Prefixes(blank, never.expand_as(blank), torch.zeros_like(utterance), utterance, blank[0])

    def starts(self, prefixes: Prefixes, units: Tensor) -> Tensor:
        """That the prefix has been said and its next unit, of ``units`` (X,), begins at each frame (T, X).

        After itself a unit begins only where a blank was between. Unit 0 never begins.
        """
        return self._before(prefixes, units) + self._emitted(prefixes.utterance, units)

    def extend(self, prefixes: Prefixes, units: Tensor) -> Prefixes:
        """Append ``units`` (X,)."""
        emitted = self._emitted(prefixes.utterance, units)
        starts = self._before(prefixes, units) + emitted
        rest = self._blank(prefixes.utterance)
        unit = torch.full_like(prefixes.unit, NEVER)
        blank = torch.full_like(prefixes.blank, NEVER)
        for t in range(len(starts)):
            unit[t + 1] = torch.logaddexp(unit[t] + emitted[t], starts[t])
            blank[t + 1] = torch.logaddexp(blank[t], unit[t]) + rest[t]
        return Prefixes(blank, unit, units, prefixes.utterance, starts.logsumexp(0))

    def spell(self, prefixes: Prefixes, units: Tensor) -> Prefixes:
        """Append sequences ``units`` (X, longest), padded with 0, one unit after another."""
        for column in units.unbind(1):
            (rows,) = torch.nonzero(column, as_tuple=True)
            if len(rows):
                prefixes = prefixes.replaced(rows, self.extend(prefixes[rows], column[rows]))
        return prefixes

    def _before(self, prefixes: Prefixes, units: Tensor) -> Tensor:
        """That the prefix has been said before each frame, ready for the unit (T, X)."""
        blank, unit = prefixes.blank[:-1], prefixes.unit[:-1]
        return torch.where(units == prefixes.last, blank, torch.logaddexp(blank, unit))

    def _emitted(self, utterance: Tensor, units: Tensor) -> Tensor:
        log_probs = self.log_probs[:, utterance, units].double()
        return log_probs.masked_fill(self.past[:, utterance] | (units == 0), NEVER)

    def _blank(self, utterance: Tensor) -> Tensor:
        return self.log_probs[:, utterance, 0].double().masked_fill(self.past[:, utterance], 0.0)


class CTCPrefixScores(LogitsProcessor):
    """Makes greedy and beam search look for the answer that CTC and the language model agree on.

    A token's score is (1 - w) log p_LM + w (log psi(prefix + token) - log psi(prefix)), psi the CTC probability of
    everything that begins so; the end of sequence has CTC's probability of exactly this prefix. Summed over an answer,
    CTC's part is the log-probability of its whole text. One object serves one call of ``generate``.

    Args:
        log_probs: CTC's, blank first (B, T, units + 1).
        lengths: Frames of each utterance (B,).
        spelling: Of the language model's tokens.
        eos_id: Token that ends an answer.
        ctc_weight: w, above 0 and at most 1.
        candidates: CTC judges this many of each row's tokens, the language model's best; the others are left out, as
            by ESPnet's pre-beam.
    """

    _rows: dict[tuple[int, ...], int]  # (utterance, tokens) -> its row in the last call
    _prefixes: Prefixes  # of these rows

    def __init__(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        spelling: Spelling,
        eos_id: int,
        ctc_weight: float,
        candidates: int = 128,
    ) -> None:
        self.forward = CTCForward(log_probs, lengths)
        self.batch, self.eos_id, self.ctc_weight = len(lengths), eos_id, ctc_weight
        device = log_probs.device
        self.opening = torch.tensor([spelling.opening], dtype=torch.long, device=device)
        self.stems, self.stem_of, self.final = (table.to(device) for table in spelling.tables)
        self.candidates = min(candidates, int(self.final.count_nonzero()))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (R, tokens so far), ``scores`` (R, W), of any scale -> joint scores (R, W)."""
        log_probs = scores.log_softmax(-1)
        prefixes = self._follow(input_ids)
        spelled = self.final[:-1] > 0
        best = log_probs[:, : len(spelled)].masked_fill(~spelled, NEVER).topk(self.candidates).indices
        joint = torch.full_like(log_probs, NEVER)
        joint.scatter_(1, best, self._join(log_probs.gather(1, best), self._gains(prefixes, best)))
        joint[:, self.eos_id] = self._join(log_probs[:, self.eos_id], prefixes.log_end - prefixes.log_psi)
        return joint

    def _follow(self, input_ids: Tensor) -> Prefixes:
        """The rows' prefixes: the search reorders its rows, so each finds the one that it extends by its tokens."""
        beams = len(input_ids) // self.batch
        keys = [(row // beams, *tokens) for row, tokens in enumerate(input_ids.tolist())]
        if not input_ids.size(1):
            utterance = torch.arange(self.batch, device=input_ids.device).repeat_interleave(beams)
            prefixes = self.forward.spell(self.forward.empty(utterance), self.opening.expand(len(keys), -1))
        else:
            token = input_ids[:, -1].clamp(max=len(self.final) - 1)
            parents = torch.tensor([self._rows[key[:-1]] for key in keys], device=input_ids.device)
            stems = self.forward.spell(self._prefixes[parents], self.stems[self.stem_of[token]])
            prefixes = self.forward.extend(stems, self.final[token])
        self._rows, self._prefixes = {key: row for row, key in enumerate(keys)}, prefixes
        return prefixes

    def _gains(self, prefixes: Prefixes, tokens: Tensor) -> Tensor:
        """log psi(prefix + token) - log psi(prefix) of ``tokens`` (R, K), the same shape.

        Tokens that differ in their last unit only share all forward variables; that unit itself needs none.
        """
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        pairs, which = torch.unique(rows * len(self.stems) + self.stem_of[tokens], return_inverse=True)
        stems = self.forward.spell(prefixes[pairs // len(self.stems)], self.stems[pairs % len(self.stems)])
        starts = self.forward.starts(stems[which.flatten()], self.final[tokens].flatten())
        return starts.logsumexp(0).view(tokens.shape) - prefixes.log_psi[:, None]

    def _join(self, log_probs: Tensor, gains: Tensor) -> Tensor:
        """The weighted sum; what either forbids stays forbidden, and a prefix that cannot be has no gain."""
        gains = gains.nan_to_num(nan=NEVER, neginf=NEVER).to(log_probs.dtype)
        joint = (1 - self.ctc_weight) * log_probs + self.ctc_weight * gains
        return torch.where(log_probs.isneginf(), NEVER, joint)
