"""The language model: any Hugging Face causal LM, fully trained, frozen, or with LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.activations import Precision
from harmonifuse_espnet.model.pretrained import Pretrained, feed_forward_width, load_pretrained


class LanguageModel(Pretrained):
    """A causal language model with embeddings as input and the hidden states of every layer as output.

    Frozen weights may be bfloat16 (see :class:`Pretrained`); LoRA and the rest of the network are float32. ``embed``
    returns float32; ``forward`` and ``head`` cast their input to the dtype of the weights.

    Args:
        vocab_size: Size of the tokenizer's vocabulary; a pre-trained model may have more embeddings.
        model: Name on the Hugging Face Hub or folder of the pre-trained model; None with ``config``.
        config: Fields of the Hugging Face configuration of a model with random weights, such as
            ``{"model_type": "qwen2", "hidden_size": 128}``.
        lora: Arguments of ``peft.LoraConfig`` (``r``, ``lora_alpha``, ``target_modules``, ...); all other weights are
            frozen.
        freeze: Freeze all weights but LoRA's.
        gradient_checkpointing: Keep only each layer's input and recompute the layer in the backward pass (activation
            checkpointing, Chen et al., 2016, arXiv:1604.06174), which needs less memory and a third more computation.

    Example:
        >>> import torch
        >>> config = {"model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        >>> llm = LanguageModel(vocab_size=20, config={**config, "num_key_value_heads": 4, "intermediate_size": 64})
        >>> states, _ = llm(llm.embed(torch.tensor([[3, 4, 5]])), None, torch.arange(3)[None])
        >>> len(states), states[-1].shape, llm.head(states[-1]).shape
        (2, torch.Size([1, 3, 32]), torch.Size([1, 3, 20]))

    Raises:
        InputError: if not exactly one of ``model`` and ``config`` is given, ``vocab_size`` exceeds the number of
            embeddings, or ``lora`` does not fit the model.
        MissingFileError: if the model does not exist.
    """

    def __init__(
        self,
        vocab_size: int,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        lora: Mapping[str, Any] | None = None,
        freeze: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        overrides = {} if config is None else {"vocab_size": vocab_size}
        self.llm = load_pretrained("decoder_conf", AutoModelForCausalLM, model, config, **overrides)
        if self.llm.config.vocab_size < vocab_size:
            raise InputError(
                f"the tokenizer has {vocab_size} tokens, the language model {model} has embeddings for "
                f"{self.llm.config.vocab_size}; use its own tokenizer (stage 4 with --tokenizer_type llm)"
            )
        self.num_layers = self.llm.config.num_hidden_layers
        self.hidden_size = self.llm.config.hidden_size
        self.frozen = freeze or bool(lora)
        if self.frozen:
            self.llm.requires_grad_(False)
        if lora:
            self._add_lora(lora)
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            new, old = "activation_checkpointing_enable", "gradient_checkpointing_enable"  # before transformers 5.23
            enable = getattr(self.llm, new if hasattr(self.llm, new) else old)
            enable({"use_reentrant": False})  # the reentrant variant needs inputs with gradients
        self.restorable = model is not None

    def _add_lora(self, lora: Mapping[str, Any]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        try:
            inject_adapter_in_model(LoraConfig(**lora), self.llm)
        except (TypeError, ValueError) as error:
            message = str(error).removesuffix(".")
            raise InputError(
                f"decoder_conf: lora {dict(lora)} does not fit the model: {message}; correct it"
            ) from error
        for name, weight in self.llm.named_parameters():
            if "lora_" in name:  # peft creates them in the precision of the adapted layers
                weight.data = weight.data.float()

    @property
    def backbone(self) -> PreTrainedModel:
        """The Transformer without its token head."""
        return self.llm.get_decoder()

    @property
    def final_norm(self) -> nn.Module:
        """The norm after the Transformer's last layer.

        Raises:
            InputError: if no attribute with a known name exists.
        """
        for name in ("norm", "final_layernorm", "final_layer_norm", "ln_f"):
            if hasattr(self.backbone, name):
                return getattr(self.backbone, name)
        raise InputError(f"{type(self.backbone).__name__} has no final norm with a known name; use fusion: last")

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed ``tokens`` (B, X): (B, X, V) in float32."""
        return self.llm.get_input_embeddings()(tokens).float()

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        position_ids: Tensor,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> tuple[tuple[Tensor, ...], Cache | None]:
        """Run the Transformer.

        Args:
            embeds: (B, S, V), any dtype.
            mask: (B, S), or (B, S0 + S) with S0 positions in the cache; True at valid positions; None if all are valid.
            position_ids: (B, S).
            cache: Keys and values of S0 earlier positions.
            use_cache: Whether to return a cache.

        Returns:
            M states (B, S, V) in the model's precision, the last one after the final norm; and the cache.
        """
        output = self.backbone(
            inputs_embeds=embeds.to(self.dtype),
            attention_mask=None if mask is None else mask.long(),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=use_cache,
            output_hidden_states=True,
        )
        return output.hidden_states[1:], output.past_key_values

    def head(self, fused: Tensor) -> Tensor:
        """Compute the logits (..., W) of fused states (..., V) in any precision."""
        head = self.llm.get_output_embeddings()
        return head(fused.to(head.weight.dtype))

    def activation_bytes(self, positions: int, precision: Precision) -> int:
        """Estimate the bytes that the layers keep for the backward pass at ``positions`` positions (B S).

        Each layer keeps ``8 V + a (2 A + 2 K + 3 I)`` bytes per position, where A and K are the widths of all query and
        key heads: the inputs of both norms in float32, queries, keys, values, attention output, and three tensors of
        the gated feed-forward layer. Trained projections also keep their inputs: ``4 in_features`` bytes each with
        LoRA, ``a (4 V + I)`` bytes in total if all weights are trained. Gradient checkpointing keeps the input of each
        layer (``a V`` bytes per position), and the above for only one layer.
        """
        config, layers, size = self.llm.config, self.num_layers, precision.element_size(self)
        width, inner, heads = self.hidden_size, feed_forward_width(config), config.num_attention_heads
        head_width = getattr(config, "head_dim", None) or width // heads
        queries, keys = head_width * heads, head_width * getattr(config, "num_key_value_heads", heads)
        layer = 8 * width + size * (2 * queries + 2 * keys + 3 * inner)
        adapted = sum(module.in_features for module in self.llm.modules() if hasattr(module, "lora_A"))
        if adapted:
            layer += 4 * adapted // layers
        elif any(weight.requires_grad for weight in self.llm.parameters()):
            layer += size * (4 * width + inner)
        return positions * (layers * size * width + layer if self.gradient_checkpointing else layers * layer)

    def logit_bytes(self, targets: int, precision: Precision) -> int:
        """Estimate ``X W (a + 12)`` bytes for X ``targets``.

        These are the logits, and in float32 the logits, log-probabilities and gradient.
        """
        return targets * (precision.element_size(self) + 12) * self.llm.config.vocab_size
