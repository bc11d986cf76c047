"""Generation with a trained model: transcripts by Hugging Face's ``generate``, and the probability of every label."""

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
    """The language model with its fusion, with the interface that Hugging Face's ``generate`` expects.

    The search and its options are the library's. The fusion weights are passed as the model argument ``beta`` (B, M).
    """

    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, model: HarmoniFuseModel) -> None:
        super().__init__(model.decoder.llm.config)
        object.__setattr__(self, "harmonifuse", model)  # not a submodule: its parameters belong to the model
        self.generation_config = GenerationConfig()

    @property
    def device(self) -> torch.device:
        return next(self.harmonifuse.parameters()).device

    def get_input_embeddings(self) -> torch.nn.Module:
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
        """``input_ids`` (B, X) or ``inputs_embeds`` (B, X, V), ``beta`` (B, M) -> logits at the end (B, 1, W)."""
        decoder = self.harmonifuse.decoder
        embeds = decoder.embed(input_ids) if inputs_embeds is None else inputs_embeds
        states, cache = decoder(embeds, attention_mask, position_ids, past_key_values, use_cache)
        fused = self.harmonifuse.fusion([state[:, -1:] for state in states], beta)
        return CausalLMOutputWithPast(logits=decoder.head(fused), past_key_values=cache)


class RepetitionLimit(LogitsProcessor):
    """Limits repetition: no sequence of tokens occurs more than ``max_repeats`` times in a row.

    For the search with the language model alone; with CTC prefix scores, each occurrence needs frames of its own.

    Args:
        max_repeats: Maximum number of consecutive occurrences of a sequence, such as 3 of TWO in TWO TWO TWO.
        max_size: Maximum length of a sequence whose repetitions are counted, in tokens.
    """

    def __init__(self, max_repeats: int = 4, max_size: int = 8) -> None:
        self.max_repeats, self.max_size = max_repeats, max_size

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (B * beams, tokens so far), ``scores`` (B * beams, W) -> scores, -inf beyond the limit."""
        scores = scores.clone()
        for size in range(1, self.max_size + 1):
            tail = input_ids[:, -(size * (self.max_repeats + 1) - 1) :]
            if tail.size(1) < size * (self.max_repeats + 1) - 1:
                break
            (repeating,) = torch.nonzero((tail[:, size:] == tail[:, :-size]).all(1), as_tuple=True)
            scores[repeating, tail[repeating, -size]] = -torch.inf
        return scores


class MaxLengths(LogitsProcessor):
    """Limits the hypotheses of each utterance to a per-utterance maximum length.

    With one maximum for the batch, the result of an utterance would depend on the others in its batch.

    Args:
        max_lengths: Maximum number of tokens of each utterance (B,), without the end of sequence.
        eos_id: Token id of the end of sequence.
    """

    def __init__(self, max_lengths: Tensor, eos_id: int) -> None:
        self.max_lengths, self.eos_id = max_lengths, eos_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids`` (B * beams, tokens so far), ``scores`` (B * beams, W) -> scores, only eos at the maximum."""
        ended = torch.full_like(scores, -torch.inf)
        ended[:, self.eos_id] = 0.0
        full = self.max_lengths.repeat_interleave(len(scores) // len(self.max_lengths)) <= input_ids.size(1)
        return torch.where(full[:, None], ended, scores)


@torch.no_grad()
def generate_text(
    model: HarmoniFuseModel, encoded: EncoderOutput, task: Tensor, eos_id: int, max_ratio: float = 1.0, **options: Any
) -> list[list[int]]:
    """Generate the transcripts of a batch, as token ids without the end of sequence.

    Args:
        model: Model in eval mode.
        encoded: Encoder output of B utterances.
        task: Task indices (B,).
        eos_id: Token id of the end of sequence.
        max_ratio: Maximum number of tokens per connector frame of the utterance; at least one token is allowed. With 1,
            the default, a hypothesis may be as long as any that CTC can emit in these frames.
        options: Arguments of Hugging Face's ``generate``: ``num_beams``, ``logits_processor``, ...
    """
    prefix = model.splice_prefix(encoded)
    max_lengths = (encoded.frame_lengths * max_ratio).long().clamp(min=1)
    processors = LogitsProcessorList([*options.pop("logits_processor", []), MaxLengths(max_lengths, eos_id)])
    tokens = FusedCausalLM(model).generate(
        inputs_embeds=prefix.embeds,
        attention_mask=prefix.mask.long(),
        beta=model.fusion.weights(encoded.prompt_summary, task),
        max_new_tokens=int(max_lengths.max()) + 1,
        logits_processor=processors,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
        do_sample=False,
        **options,
    )
    return [_before_eos(row, eos_id) for row in tokens.tolist()]


@torch.no_grad()
def label_log_probs(
    model: HarmoniFuseModel, encoded: EncoderOutput, task: int, labels: Sequence[Sequence[int]]
) -> Tensor:
    """Return the log-probability of every label of a task, normalised over the labels, by the model's ``label_output``.

    The prefix is computed once; the K labels of all utterances continue it in one batch.

    Args:
        model: Model in eval mode.
        encoded: Encoder output of B utterances.
        task: Index of their task.
        labels: K token sequences, each with its end of sequence.

    Returns:
        (B, K); the exponentials of a row sum to 1.
    """
    prefix = model.splice_prefix(encoded)
    states, cache = model.decoder(prefix.embeds, prefix.mask, prefix.position_ids, use_cache=True)
    beta = model.fusion.weights(encoded.prompt_summary, torch.full_like(encoded.frame_lengths, task))
    lm_output = LMOutput(prefix, states, model.fusion, beta)
    assert cache is not None
    return model.label_output.log_probs(lm_output, task, lambda: _score_labels(model, lm_output, cache, labels))


def _score_labels(
    model: HarmoniFuseModel, lm_output: LMOutput, cache: Cache, labels: Sequence[Sequence[int]]
) -> Tensor:
    """Return the log-probability of K token sequences after the prefix of ``cache`` and ``lm_output``: (B, K)."""
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


def _before_eos(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id)] if eos_id in tokens else tokens
