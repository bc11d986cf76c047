"""The complete model: encoder, gate, connector, CTC, splice, language model, fusion, outputs and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor, nn

from harmonifuse_espnet.common.compatibility import upgrade_state_dict
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.data.batch import SpeechBatch, Targets
from harmonifuse_espnet.data.tasks import SpeechTask
from harmonifuse_espnet.model.checkpoint import describe_mismatch
from harmonifuse_espnet.model.connector import StackingConnector
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.encoders.base import SpeechEncoder
from harmonifuse_espnet.model.fusion import LayerFusion
from harmonifuse_espnet.model.gate import Projection
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import LayerWeights, weighted_sum
from harmonifuse_espnet.model.outputs import LabelOutput, LMOutput, TaskLoss, loss_by_task, predict_tokens
from harmonifuse_espnet.model.splice import IGNORE, Segment, Spliced, splice


@dataclass(frozen=True)
class EncoderOutput:
    """Prompt and encoded speech as input of the language model.

    Attributes:
        segments: Embeddings of the prompt and of the speech, in the order of the language model's input.
        prompt_summary: Mean of the prompt's embeddings (B, V).
        frame_lengths: Connector frames of each utterance (B,).
        ctc_log_probs: (B, T', W + 1), or None without a CTC head.
    """

    segments: list[Segment]
    prompt_summary: Tensor
    frame_lengths: Tensor
    ctc_log_probs: Tensor | None


class HarmoniFuseModel(AbsESPnetModel):
    """The complete model; :class:`harmonifuse_espnet.train.task.HarmoniFuseTask` builds it from a configuration.

    Args:
        tasks: The tasks of the table, in its order.
        frontend: Speech encoder that returns every hidden state.
        layer_weights: Weights over the encoder's layers.
        gate: Component gate, (B, T, D) -> (B, T, C).
        connector: (B, T, C) -> (B, T', V).
        ctc: CTC head over the connector's frames, or None.
        decoder: The language model.
        fusion: Fusion of the language model's layers.
        label_output: Prediction of labels.
        preamble_ids: Tokens before the prompt, such as those of a chat template.
        opening_ids: Tokens between the speech and the target: bos, or those of a chat template.
        ctc_weight: Weight of the CTC loss of text tasks.
        ctc_feedback: Add a projection of the CTC posterior to each frame, as in self-conditioned CTC (Nozaki and
            Komatsu, 2021, arXiv:2104.02724).
        label_smoothing: Label smoothing of the cross entropy, for target tokens and classified labels.
        word_dropout: Probability of zeroing the input embedding of a target token in training (Bowman et al., 2016,
            arXiv:1511.06349), so that the language model relies on the speech.
        embed_dropout: Dropout on the spliced embeddings.
        speech_first: Whether the speech precedes the prompt.
    """

    def __init__(
        self,
        tasks: Sequence[SpeechTask],
        frontend: SpeechEncoder,
        layer_weights: LayerWeights,
        gate: Projection,
        connector: StackingConnector,
        ctc: CTCHead | None,
        decoder: LanguageModel,
        fusion: LayerFusion,
        label_output: LabelOutput,
        preamble_ids: Sequence[int] = (),
        opening_ids: Sequence[int] = (),
        ctc_weight: float = 1.0,
        ctc_feedback: bool = False,
        label_smoothing: float = 0.0,
        word_dropout: float = 0.0,
        embed_dropout: float = 0.0,
        speech_first: bool = False,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.frontend, self.layer_weights, self.gate = frontend, layer_weights, gate
        self.connector, self.ctc, self.decoder, self.fusion = connector, ctc, decoder, fusion
        self.label_output = label_output
        self.preamble_ids, self.opening_ids = tuple(preamble_ids), tuple(opening_ids)
        self.ctc_weight, self.label_smoothing = ctc_weight, label_smoothing
        self.word_dropout, self.speech_first = word_dropout, speech_first
        self.embed_dropout = nn.Dropout(embed_dropout)
        self.feedback = None
        if ctc is not None and ctc_feedback:
            self.feedback = nn.Linear(ctc.project.out_features, decoder.hidden_size, bias=False)

    def forward(self, batch: SpeechBatch, **unused: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Run one training step.

        Args:
            batch: B utterances, speech (B, N), with targets.
            unused: Other arguments of ESPnet's trainer, such as utterance ids.

        Returns:
            Loss (a scalar), statistics by name, and their weight, the batch size.
        """
        assert batch.targets is not None
        targets, rows = batch.targets, batch.rows
        encoded = self.encode(batch)
        lengths = self.label_output.target_lengths(targets.lengths, targets.label)
        spliced = self.splice_target(encoded, targets.tokens, lengths)
        states, _ = self.decoder(self.embed_dropout(spliced.embeds), spliced.mask, spliced.position_ids)
        beta = self.fusion.weights(encoded.prompt_summary, batch.task)
        lm_output = LMOutput(spliced, states, self.fusion, beta)
        token_tasks = self.label_output.token_tasks(rows)
        tokens = predict_tokens(lm_output, self.decoder.head, self.label_smoothing, token_tasks)
        labels = self.label_output(lm_output, rows, targets.label, self.label_smoothing)
        losses = loss_by_task(rows, [tokens, *labels], len(batch.task))
        loss, stats = self._total_loss(batch, losses, self._ctc_losses(encoded, targets, rows))
        return force_gatherable((loss, stats, batch.speech.new_tensor(len(batch.task))), loss.device)

    def encode(self, batch: SpeechBatch) -> EncoderOutput:
        """Encode speech (B, N) and prompt (B, P) as segments of the language model's input."""
        prompt, prompt_summary = self.embed_prompt(batch.prompt, batch.prompt_lengths)
        weighted, lengths = self.weight_layers(batch.speech, batch.speech_lengths, prompt_summary, batch.task)
        gated = self.gate(weighted, lengths, prompt_summary, batch.task, batch.rows)
        frames, lengths = self.connector(gated, lengths)
        log_probs = self.ctc(frames) if self.ctc is not None else None
        if self.feedback is not None and log_probs is not None:
            frames = frames + self.feedback(log_probs.detach().exp())
        segments = [prompt, Segment(frames, length_mask(lengths, frames.size(1)))]
        return EncoderOutput(segments[::-1] if self.speech_first else segments, prompt_summary, lengths, log_probs)

    def embed_prompt(self, prompt: Tensor, prompt_lengths: Tensor) -> tuple[Segment, Tensor]:
        """Embed ``prompt`` (B, P) -> segment, and summary q (B, V), the mean of the embeddings."""
        segment = Segment(self.decoder.embed(prompt), length_mask(prompt_lengths, prompt.size(1)))
        return segment, (segment.embeds * segment.mask[..., None]).sum(1) / prompt_lengths[:, None]

    def weight_layers(
        self, speech: Tensor, speech_lengths: Tensor, prompt_summary: Tensor, task: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``speech`` (B, N), ``prompt_summary`` (B, V), ``task`` (B,) -> weighted layers (B, T, D), lengths (B,)."""
        states, lengths = self.frontend(speech, speech_lengths)
        return weighted_sum(states, self.layer_weights(prompt_summary, task)), lengths

    def splice_target(self, encoded: EncoderOutput, tokens: Tensor, lengths: Tensor) -> Spliced:
        """Splice prompt, speech and the target ``tokens`` (B, U), ``lengths`` (B,), with labels at the target."""
        mask = length_mask(lengths, tokens.size(1))
        embeds = self.decoder.embed(tokens)
        if self.training and self.word_dropout > 0.0:
            embeds = embeds * (torch.rand(mask.shape, device=mask.device) >= self.word_dropout)[..., None]
        target = Segment(embeds, mask, tokens.masked_fill(~mask, IGNORE))
        return splice([*self.prefix(encoded), target])

    def splice_prefix(self, encoded: EncoderOutput) -> Spliced:
        """Splice the segments before the target, padded on the left for generation."""
        return splice(self.prefix(encoded), padding_side="left")

    def prefix(self, encoded: EncoderOutput) -> list[Segment]:
        """Return the segments before the target: preamble, prompt and speech, opening."""
        batch = encoded.prompt_summary.size(0)
        return [self._embed_ids(self.preamble_ids, batch), *encoded.segments, self._embed_ids(self.opening_ids, batch)]

    def _embed_ids(self, ids: Sequence[int], batch_size: int) -> Segment:
        """Embed the same X tokens for every utterance: a segment (B, X)."""
        tokens = torch.tensor(ids, dtype=torch.long, device=next(self.parameters()).device).expand(batch_size, -1)
        return Segment(self.decoder.embed(tokens), torch.ones_like(tokens, dtype=torch.bool))

    def _ctc_losses(self, encoded: EncoderOutput, targets: Targets, rows: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return the CTC loss in nats per token of each text task in the batch."""
        losses = {}
        for task, row in rows.items():
            if encoded.ctc_log_probs is None or self.tasks[task].answer != "text":
                continue
            lengths = targets.ctc_lengths[row]
            total = CTCHead.loss(
                encoded.ctc_log_probs[row], encoded.frame_lengths[row], targets.ctc_tokens[row], lengths
            )
            losses[task] = total / lengths.float().mean()
        return losses

    def _total_loss(
        self, batch: SpeechBatch, losses: Mapping[int, TaskLoss], ctc: Mapping[int, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the tasks' losses, weighted by their fractions of the utterances; return the sum and all statistics.

        The gradient of a mixed batch is thus the mean of the gradients of separate batches, weighted by their sizes.
        """
        stats: dict[str, Tensor] = {}
        weighted_losses, weighted_accuracies = [], []
        for task, (loss, acc) in losses.items():
            name, share = self.tasks[task].name, len(batch.rows[task]) / len(batch.task)
            stats |= {f"loss_{name}": loss.detach(), f"acc_{name}": acc}
            if task in ctc:
                stats[f"loss_ctc_{name}"] = ctc[task].detach()
                loss = loss + self.ctc_weight * ctc[task]
            weighted_losses.append(share * loss)
            weighted_accuracies.append(share * acc)
        total = torch.stack(weighted_losses).sum()
        return total, {**stats, "loss": total.detach(), "acc": torch.stack(weighted_accuracies).sum()}

    def collect_feats(self, batch: SpeechBatch, **unused: Any) -> dict[str, Tensor]:
        """Return {} for any ``batch``: stage 5 collects statistics without the model (``data/stats.py``)."""
        return {}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state of a checkpoint, without the frozen weights of restorable modules."""
        state = super().state_dict(*args, **kwargs)
        for name in self._restorable_names(kwargs.get("prefix", "")):
            state.pop(name, None)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint of this or an earlier format; ``strict=False``, which ESPnet passes, is ignored.

        Raises:
            InputError: if a trained parameter is missing, unknown or of another shape.
        """
        state_dict = upgrade_state_dict(state_dict)
        mismatch = describe_mismatch(self.state_dict(), state_dict)
        if mismatch:
            raise InputError(
                f"the checkpoint does not fit the config: {mismatch}; use the config.yaml of the same experiment"
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def _restorable_names(self, prefix: str) -> list[str]:
        """Return the names of frozen weights and buffers of restorable modules."""
        names = []
        for name, module in self.named_children():
            if getattr(module, "restorable", False):
                state = nn.Module.state_dict(module, keep_vars=True)
                names += [f"{prefix}{name}.{key}" for key, value in state.items() if not value.requires_grad]
        return names
