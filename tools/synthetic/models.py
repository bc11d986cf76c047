"""Small randomly initialised models in Hugging Face's format: a speech encoder, a language model and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

FOLDER = "models"
WAVLM: dict[str, Any] = {  # like the large models: layer normalisation, 320 samples per frame
    "model_type": "wavlm",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
QWEN2: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "vocab_size": 512,
}
CHAT_TOKENS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_models(out_dir: Path) -> int:
    """Write ``out_dir/models/wavlm`` and ``out_dir/models/qwen2``, and return the number of models."""
    save_encoder(out_dir / FOLDER / "wavlm", WAVLM)
    save_llm(out_dir / FOLDER / "qwen2", QWEN2, CHAT_TOKENS[0], CHAT_TOKENS[1:], CHAT_TEMPLATE)
    return 2


def save_encoder(folder: Path, config: Mapping[str, Any]) -> str:
    """Write a randomly initialised encoder with ``save_pretrained``, and return its folder."""
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(**config)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return str(folder)


def save_llm(
    folder: Path, config: Mapping[str, Any], eos: str, others: Sequence[str] = (), template: str | None = None
) -> str:
    """Write a randomly initialised language model with a byte-level tokenizer, and return its folder.

    Token ids: 0 is ``eos``, 1 to 256 are the bytes, and from 257 on the ``others``, which are special tokens, too.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).save_pretrained(folder)
    pieces = [eos, *sorted(pre_tokenizers.ByteLevel.alphabet()), *others]
    inner = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = {"eos_token": eos, "additional_special_tokens": list(others)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)
