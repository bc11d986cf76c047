"""HarmoniFuse (arXiv 2509.18570): one speech LLM for ASR, speech emotion recognition (SER) and further tasks.

Subpackages, in the order of the pipeline. Each imports only from those above it:

    common      errors, command line, configurations, files, progress, resuming, masks, experiment folders
    data        audio, features, tokenizer, tasks, augmentation, task schedule, batches
    corpora     one reader per corpus, which returns the utterances of each set
    model       the network
    train       ESPnet's trainer for this model; estimates of memory and time
    inference   decoding, forced alignment and packing of a trained model
    evaluation  scores, RESULTS.md, figures
    ablation    comparison of model variants over several seeds
    bin         one command per stage

Letters for tensor shapes:
    B batch, N samples, T encoder frames, D encoder width, L encoder layers, C width after the gate,
    S spliced positions (prompt, speech and target), P prompt tokens, U target tokens,
    V language model width, M language model layers, K labels, W vocabulary size.
Masks are True where a position is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonifuse_espnet.inference.speech2text import Speech2Text

__all__ = ["Speech2Text", "__version__"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import :class:`Speech2Text` lazily, because it imports PyTorch."""
    if name != "Speech2Text":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("harmonifuse_espnet.inference.speech2text").Speech2Text
