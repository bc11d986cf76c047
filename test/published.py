"""Configurations and sizes, as published on the Hugging Face Hub, of the models that committed recipes name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# name -> fields of config.json, and millions of parameters of the model that the recipes load
PUBLISHED: dict[str, tuple[dict[str, Any], float]] = {
    "microsoft/wavlm-large": (
        {
            "model_type": "wavlm",
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "conv_bias": False,
        },
        315.5,
    ),
    "Qwen/Qwen2.5-1.5B": (
        {
            "model_type": "qwen2",
            "hidden_size": 1536,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "intermediate_size": 8960,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
        1543.7,
    ),
}


def write_hub_cache(folder: Path) -> None:
    """Write a cache of the Hugging Face Hub with the published configurations and without weights."""
    for name, (fields, _) in PUBLISHED.items():
        model = folder / f"models--{name.replace('/', '--')}"
        snapshot = model / "snapshots" / "0"
        snapshot.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text("0")
        (snapshot / "config.json").write_text(json.dumps(fields))
        if "conv_bias" in fields:
            extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
            (snapshot / "preprocessor_config.json").write_text(json.dumps(extractor))
