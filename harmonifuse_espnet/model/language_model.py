"""The language model: any Hugging Face causal LM, whole or with LoRA, giving every layer's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.model.pretrained import Pretrained, load_pretrained


class LanguageModel(Pretrained):
    """A causal language model that is fed embeddings.

    Its frozen weights may be bfloat16 (see :class:`Pretrained`), the rest of the network is float32: embeddings come
    out in float32 and are cast on the way in, and so are fused states before the head. LoRA's weights are float32.

    Args:
        model: Name on the hub or a folder; its weights are loaded. None with ``config`` for random weights.
        config: ``{"model_type": "qwen2", "hidden_size": ...}``, the fields of the Hugging Face configuration.
        vocab_size: The tokenizer's size, which a random model takes and a pre-trained one must reach.
        lora: Arguments of ``peft.LoraConfig`` (``r``, ``lora_alpha``, ``target_modules``, ...); the rest is frozen.
        freeze: Train nothing of the language model but LoRA.
        gradient_checkpointing: Keep each layer's input alone and compute the layer again in the backward pass
            (activation checkpointing, Chen et al., 2016, arXiv:1604.06174): a third more work, far less memory.

    Raises:
        ValueError: if not exactly one of ``model`` and ``config`` is given, or the tokenizer has more tokens than the
            model has embeddings.
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
            enable({"use_reentrant": False})  # the other kind needs inputs that learn
        self.restorable = model is not None

    def _add_lora(self, lora: Mapping[str, Any]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(LoraConfig(**lora), self.llm)
        for name, weight in self.llm.named_parameters():
            if "lora_" in name:  # peft makes them in the precision of the layers that they adapt
                weight.data = weight.data.float()

    @property
    def backbone(self) -> PreTrainedModel:
        """The Transformer without the head."""
        return self.llm.get_decoder()

    @property
    def final_norm(self) -> nn.Module:
        """The norm that the Transformer applies to its last layer.

        Raises:
            ValueError: if the architecture names it in a way that is not known here.
        """
        for name in ("norm", "final_layernorm", "final_layer_norm", "ln_f"):
            if hasattr(self.backbone, name):
                return getattr(self.backbone, name)
        raise InputError(f"{type(self.backbone).__name__} has no final norm under a known name; use fusion: last")

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids (B, X) -> embeddings (B, X, V) in float32."""
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
            embeds: (B, S, V), of any precision.
            mask: (B, S), or (B, S0 + S) with S0 positions in the cache; True where valid; None where all are.
            position_ids: (B, S).
            cache: Keys and values of S0 earlier positions.
            use_cache: Whether to return a cache.

        Returns:
            M states (B, S, V) in the model's precision, the last one after the final norm, and the cache.
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
        """Fused states (..., V), of any precision -> logits (..., W)."""
        head = self.llm.get_output_embeddings()
        return head(fused.to(head.weight.dtype))
