"""Answers from a trained model: free text by Hugging Face's ``generate``, and the probability of every label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from harmonifuse_espnet.model.harmonifuse import EncoderOutput, HarmoniFuseModel
from harmonifuse_espnet.model.outputs import LMOutput


class FusedCausalLM(PreTrainedModel, GenerationMixin):
    """The language model with its fusion, as ``generate`` wants to see it.

    Greedy search, beam search, length limits, constraints and score processors are the library's. The fusion's
    weights travel as the model argument ``beta`` (B, M).
    """

    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, model: HarmoniFuseModel) -> None:
        super().__init__(model.decoder.llm.config)
        object.__setattr__(self, "harmonifuse", model)  # not a submodule: its parameters have a home already
        self.generation_config = GenerationConfig()

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.harmonifuse.parameters()).device

    def get_input_embeddings(self) -> torch.nn.Module:
        """The language model's token embeddings."""
        return self.harmonifuse.decoder.llm.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool = True,
        beta: Tensor | None = None,
        **unused: Any,
    ) -> CausalLMOutputWithPast:
        """``input_ids`` (B, X) or ``inputs_embeds`` (B, X, V), ``beta`` (B, M) -> last logits (B, 1, W)."""
        decoder = self.harmonifuse.decoder
        embeds = decoder.embed(input_ids) if inputs_embeds is None else inputs_embeds
        states, cache = decoder(embeds, attention_mask, position_ids, past_key_values, use_cache)
        fused = self.harmonifuse.fusion([state[:, -1:] for state in states], beta)
        return CausalLMOutputWithPast(logits=decoder.head(fused), past_key_values=cache)


class RepetitionLimit(LogitsProcessor):
    """Keeps an answer from running in circles: no sequence of tokens comes more than ``max_repeats`` times in a row.

    For answers that only the language model judges; CTC needs no guard, as it has to hear every repetition.

    Args:
        max_repeats: How often the same may be said, as in TWO TWO TWO.
        max_loop: The longest sequence that is watched, in tokens.
    """

    def __init__(self, max_repeats: int = 4, max_loop: int = 8) -> None:
        self.max_repeats, self.max_loop = max_repeats, max_loop

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (B * beams, tokens so far), ``scores`` (B * beams, W) -> scores, -inf for once too often."""
        scores = scores.clone()
        for size in range(1, self.max_loop + 1):
            tail = input_ids[:, -(size * (self.max_repeats + 1) - 1) :]
            if tail.size(1) < size * (self.max_repeats + 1) - 1:
                break
            (looping,) = torch.nonzero((tail[:, size:] == tail[:, :-size]).all(1), as_tuple=True)
            scores[looping, tail[looping, -size]] = -torch.inf
        return scores


class MaxLengths(LogitsProcessor):
    """Ends each answer after its own number of tokens; under a common limit the batch would decide between beams.

    An answer never runs past what the audio's length allows.

    Args:
        limits: The most tokens of each utterance's answer (B,), without the end of sequence.
        eos_id: Token that ends an answer.
    """

    def __init__(self, limits: Tensor, eos_id: int) -> None:
        self.limits, self.eos_id = limits, eos_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (B * beams, tokens so far), ``scores`` (B * beams, W) -> scores, the end alone where full."""
        ended = torch.full_like(scores, -torch.inf)
        ended[:, self.eos_id] = 0.0
        full = self.limits.repeat_interleave(len(scores) // len(self.limits)) <= input_ids.size(1)
        return torch.where(full[:, None], ended, scores)


@torch.no_grad()
def generate_text(
    model: HarmoniFuseModel, encoded: EncoderOutput, task: Tensor, eos_id: int, max_ratio: float = 1.0, **options: Any
) -> list[list[int]]:
    """The answers' token ids, without the end of sequence.

    Args:
        model: In eval mode.
        encoded: Of B utterances.
        task: (B,).
        eos_id: Token that ends an answer.
        max_ratio: An answer has at most this many tokens for each connector frame of its utterance, and at least one.
            The limit is each utterance's own, so that it does not depend on the batch. At 1, the default, an answer
            is as long as CTC could write in these frames, several times what is ever said in 40 ms each.
        options: Of Hugging Face's ``generate``: ``num_beams``, ``repetition_penalty``, ``logits_processor``, ...
    """
    prefix = model.splice_prefix(encoded)
    limits = (encoded.frame_lengths * max_ratio).long().clamp(min=1)
    processors = LogitsProcessorList([*options.pop("logits_processor", []), MaxLengths(limits, eos_id)])
    tokens = FusedCausalLM(model).generate(
        inputs_embeds=prefix.embeds,
        attention_mask=prefix.mask.long(),
        beta=model.fusion.weights(encoded.prompt_summary, task),
        max_new_tokens=int(limits.max()) + 1,
        logits_processor=processors,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
        do_sample=False,
        **options,
    )
    return [_cut(row, eos_id) for row in tokens.tolist()]


@torch.no_grad()
def label_log_probs(
    model: HarmoniFuseModel, encoded: EncoderOutput, task: Tensor, labels: Sequence[Sequence[int]]
) -> Tensor:
    """Log-probability of every label of a task, normalised over the labels, by the model's ``label_output``.

    The prefix is read once; where labels are spoken, all labels of all utterances continue it in one batch.

    Args:
        model: In eval mode.
        encoded: Of B utterances.
        task: (B,), all the same.
        labels: K token sequences, each with its end of sequence.

    Returns:
        (B, K), each row's exponentials summing to 1.
    """
    prefix = model.splice_prefix(encoded)
    states, cache = model.decoder(prefix.embeds, prefix.mask, prefix.position_ids, use_cache=True)
    lm_output = LMOutput(prefix, states, model.fusion, model.fusion.weights(encoded.prompt_summary, task))
    assert cache is not None
    return model.label_output.log_probs(lm_output, task, lambda: _score_words(model, lm_output, cache, labels))


def _score_words(model: HarmoniFuseModel, lm_output: LMOutput, cache: Cache, labels: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability of K token sequences after a prefix that ``cache`` holds and ``lm_output`` has read: (B, K)."""
    prefix, beta = lm_output.spliced, lm_output.beta
    first = _log_probs(model, [state[:, -1:] for state in lm_output.states], beta)
    count, size, device = len(labels), max(len(label) for label in labels), beta.device
    tokens = torch.zeros(count, size, dtype=torch.long, device=device)
    valid = torch.zeros(count, size, dtype=torch.bool, device=device)
    for row, label in enumerate(labels):
        tokens[row, : len(label)] = torch.tensor(label, device=device)
        valid[row, : len(label)] = True
    batch = prefix.mask.size(0)
    tokens, valid = tokens.repeat(batch, 1), valid.repeat(batch, 1)
    cache.batch_repeat_interleave(count)
    mask = torch.cat([prefix.mask.repeat_interleave(count, 0), valid], dim=1)
    start = prefix.position_ids[:, -1:].repeat_interleave(count, 0) + 1
    positions = start + torch.arange(size, device=device)
    states, _ = model.decoder(model.decoder.embed(tokens), mask, positions, cache, use_cache=True)
    rest = _log_probs(model, states, beta.repeat_interleave(count, 0))
    predicted = torch.cat([first.repeat_interleave(count, 0), rest[:, :-1]], dim=1)
    scores = predicted.gather(-1, tokens[..., None])[..., 0].masked_fill(~valid, 0.0).sum(1)
    return scores.view(batch, count)


def _log_probs(model: HarmoniFuseModel, states: Sequence[Tensor], beta: Tensor) -> Tensor:
    return model.decoder.head(model.fusion(states, beta)).float().log_softmax(-1)


def _cut(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id)] if eos_id in tokens else tokens
