"""HarmoniFuse: encode, gate, connect, splice, decode, fuse, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor, nn

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.data.tasks import SpeechTask
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.fusion import LayerFusion
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import LayerWeights, weighted_sum
from harmonifuse_espnet.model.outputs import LabelOutput, LMOutput, TaskLoss, loss_by_task, predict_tokens
from harmonifuse_espnet.model.splice import IGNORE, Segment, Spliced, splice


@dataclass(frozen=True)
class EncoderOutput:
    """What the language model is about to read, and what was learned on the way.

    Attributes:
        segments: The prompt and the speech, in the order of the splice.
        prompt_summary: The prompt's summary (B, V).
        frame_lengths: Connector frames of each utterance (B,).
        ctc_log_probs: (B, T', W + 1), or None without a CTC head.
    """

    segments: list[Segment]
    prompt_summary: Tensor
    frame_lengths: Tensor
    ctc_log_probs: Tensor | None


class HarmoniFuseModel(AbsESPnetModel):
    """The whole network; built from a config by :class:`harmonifuse_espnet.train.task.HarmoniFuseTask`.

    Args:
        tasks: The table of tasks, in the order of their indices.
        frontend: Speech encoder with all its states.
        layer_weights: Weights over the encoder's layers.
        gate: Component gate, (B, T, D) -> (B, T, C).
        connector: (B, T, C) -> (B, T', V).
        ctc: CTC head over the connector's frames, or None.
        decoder: The language model.
        fusion: Fusion of the language model's layers.
        label_output: How tasks answer with one of their labels.
        preamble_ids: Tokens before every prompt, such as a chat template's.
        opening_ids: Tokens between the speech and the answer: a beginning of sequence, or a chat template's.
        ctc_weight: Weight of the CTC loss of tasks that answer with text.
        ctc_feedback: Add an embedding of the CTC posterior to each frame, as in self-conditioned CTC (Nozaki and
            Komatsu, 2021, arXiv:2104.02724), so that the language model reads what CTC encoded.
        label_smoothing: Of the cross entropy over an answer's tokens, or its label.
        word_dropout: Probability with which an answer token that the language model reads in training is blanked
            (word dropout, Bowman et al., 2016, arXiv:1511.06349), so that it has to listen.
        embed_dropout: Dropout on the spliced embeddings.
        speech_first: Speech before the prompt, in place of the prompt before the speech.
    """

    def __init__(
        self,
        tasks: Sequence[SpeechTask],
        frontend: nn.Module,
        layer_weights: LayerWeights,
        gate: nn.Module,
        connector: nn.Module,
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

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        prompt: Tensor,
        prompt_lengths: Tensor,
        ctc_text: Tensor,
        ctc_text_lengths: Tensor,
        task: Tensor,
        label: Tensor,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """One training step.

        Args:
            speech: (B, N) samples, or (B, T, features) from a dump, with lengths (B,).
            text: The answer's token ids (B, U), the end of sequence included, with lengths (B,).
            prompt: Token ids (B, P) with lengths (B,).
            ctc_text: CTC token ids (B, U') with lengths (B,).
            task: Indices (B, 1).
            label: The answer's index among its task's labels (B, 1), -1 for a text.

        Returns:
            Loss (a scalar), statistics by name and by task, and the batch size as the weight of both.
        """
        task, label = task.view(-1), label.view(-1)
        encoded = self.encode(speech, speech_lengths, prompt, prompt_lengths, task)
        spliced = self.splice_target(encoded, text, self.label_output.target_lengths(text_lengths, label))
        states, _ = self.decoder(self.embed_dropout(spliced.embeds), spliced.mask, spliced.position_ids)
        lm_output = LMOutput(spliced, states, self.fusion, self.fusion.weights(encoded.prompt_summary, task))
        tokens = predict_tokens(lm_output, self.decoder.head, self.label_smoothing)
        answers = loss_by_task(task, [tokens, *self.label_output(lm_output, task, label, self.label_smoothing)])
        loss, stats = self._join(task, answers, self._ctc_losses(encoded, ctc_text, ctc_text_lengths, task))
        return force_gatherable((loss, stats, speech.new_tensor(speech.size(0))), loss.device)

    def encode(
        self, speech: Tensor, speech_lengths: Tensor, prompt: Tensor, prompt_lengths: Tensor, task: Tensor
    ) -> EncoderOutput:
        """From speech (B, N) and prompt (B, P) to the segments that the language model reads, for tasks (B,)."""
        asked, prompt_summary = self.read_prompt(prompt, prompt_lengths)
        selected, lengths = self.select_layers(speech, speech_lengths, prompt_summary, task)
        frames, lengths = self.connector(self.gate(selected, lengths, prompt_summary, task), lengths)
        log_probs = self.ctc(frames) if self.ctc is not None else None
        if self.feedback is not None and log_probs is not None:
            frames = frames + self.feedback(log_probs.detach().exp())
        segments = [asked, Segment(frames, length_mask(lengths, frames.size(1)))]
        return EncoderOutput(segments[::-1] if self.speech_first else segments, prompt_summary, lengths, log_probs)

    def read_prompt(self, prompt: Tensor, prompt_lengths: Tensor) -> tuple[Segment, Tensor]:
        """``prompt`` (B, P) -> its segment, and its summary q (B, V), the mean of its embeddings."""
        segment = Segment(self.decoder.embed(prompt), length_mask(prompt_lengths, prompt.size(1)))
        return segment, (segment.embeds * segment.mask[..., None]).sum(1) / prompt_lengths[:, None]

    def select_layers(
        self, speech: Tensor, speech_lengths: Tensor, prompt_summary: Tensor, task: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``speech`` (B, N), ``prompt_summary`` (B, V), ``task`` (B,) -> weighted layers (B, T, D), lengths (B,)."""
        states, lengths = self.frontend(speech, speech_lengths)
        return weighted_sum(states, self.layer_weights(prompt_summary, task)), lengths

    def splice_target(self, encoded: EncoderOutput, text: Tensor, text_lengths: Tensor) -> Spliced:
        """Append the opened answer ``text`` (B, U) to what was encoded; labels stand where they are read."""
        mask = length_mask(text_lengths, text.size(1))
        embeds = self.decoder.embed(text)
        if self.training and self.word_dropout > 0.0:
            embeds = embeds * (torch.rand(mask.shape, device=mask.device) >= self.word_dropout)[..., None]
        answer = Segment(embeds, mask, text.masked_fill(~mask, IGNORE))
        return splice([*self.prefix(encoded), answer])

    def splice_prefix(self, encoded: EncoderOutput) -> Spliced:
        """What comes before an answer, padded on the left, ready to be continued."""
        return splice(self.prefix(encoded), padding_side="left")

    def prefix(self, encoded: EncoderOutput) -> list[Segment]:
        """The preamble, what is encoded, and the answer's opening."""
        batch = encoded.prompt_summary.size(0)
        return [self._literal(self.preamble_ids, batch), *encoded.segments, self._literal(self.opening_ids, batch)]

    def _literal(self, ids: Sequence[int], batch_size: int) -> Segment:
        """The same X tokens for every utterance: a segment (B, X)."""
        tokens = torch.tensor(ids, dtype=torch.long, device=next(self.parameters()).device).expand(batch_size, -1)
        return Segment(self.decoder.embed(tokens), torch.ones_like(tokens, dtype=torch.bool))

    def _ctc_losses(self, encoded: EncoderOutput, tokens: Tensor, lengths: Tensor, task: Tensor) -> dict[int, Tensor]:
        """Loss in nats a token of each text task in ``task`` (B,), for ``tokens`` (B, U'), ``lengths`` (B,)."""
        losses = {}
        for index in task.unique().tolist():
            if encoded.ctc_log_probs is None or self.tasks[index].answer != "text":
                continue
            chosen = task == index
            total = CTCHead.loss(
                encoded.ctc_log_probs[chosen], encoded.frame_lengths[chosen], tokens[chosen], lengths[chosen]
            )
            losses[index] = total / lengths[chosen].float().mean()
        return losses

    def _join(
        self, task: Tensor, answers: Mapping[int, TaskLoss], ctc: Mapping[int, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and all statistics; tasks count by their utterances in ``task`` (B,).

        So a mixed batch teaches what batches of one task each teach in turn.
        """
        stats: dict[str, Tensor] = {}
        losses, accuracies = [], []
        for index, (loss, acc) in answers.items():
            name, share = self.tasks[index].name, (task == index).float().mean()
            stats |= {f"loss_{name}": loss.detach(), f"acc_{name}": acc}
            if index in ctc:
                stats[f"loss_ctc_{name}"] = ctc[index].detach()
                loss = loss + self.ctc_weight * ctc[index]
            losses.append(share * loss)
            accuracies.append(share * acc)
        whole = torch.stack(losses).sum()
        return whole, {**stats, "loss": whole.detach(), "acc": torch.stack(accuracies).sum()}

    def collect_feats(self, speech: Tensor, speech_lengths: Tensor, **unused: Any) -> dict[str, Tensor]:
        """Nothing to collect: stage 5 has a command of its own that does not build the model. Shapes: speech (B, N)."""
        return {}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a checkpoint holds: all that training changes, none of the frozen weights that a name restores."""
        state = super().state_dict(*args, **kwargs)
        for name in self._restorable_names(kwargs.get("prefix", "")):
            state.pop(name, None)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint; ESPnet's ``strict=False`` is not followed.

        Raises:
            ValueError: if a trained parameter is missing, unknown or of another shape; the message lists the keys.
        """
        own = self.state_dict()
        missing, unknown = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        shapes = [
            f"{name} {tuple(state_dict[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state_dict.keys())
            if own[name].shape != state_dict[name].shape
        ]
        if missing or unknown or shapes:
            raise InputError(
                "the checkpoint does not fit the config; use the config.yaml of the same experiment. "
                f"Missing: {missing or 'none'}; unknown: {unknown or 'none'}; other shapes: {shapes or 'none'}"
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def _restorable_names(self, prefix: str) -> list[str]:
        """Frozen weights and buffers of modules that were loaded by name."""
        names = []
        for name, module in self.named_children():
            if getattr(module, "restorable", False):
                state = nn.Module.state_dict(module, keep_vars=True)
                names += [f"{prefix}{name}.{key}" for key, value in state.items() if not value.requires_grad]
        return names
