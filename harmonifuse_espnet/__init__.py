"""HarmoniFuse (arXiv 2509.18570): one speech language model for speech recognition, emotion recognition and more.

The package is read in the order of the pipeline; imports go downwards only:

    common      errors, command line, configurations, files, progress, resuming, masks, experiment folders
    data        from a data folder to a batch
    corpora     one reader a corpus: a release becomes data folders
    model       the network
    train       ESPnet's trainer, extended
    inference   a trained model at work
    evaluation  scores, RESULTS.md, figures
    ablation    variants and seeds compared
    bin         one command a stage

Shape letters, the same in every docstring:
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
    """Import :class:`Speech2Text`, and PyTorch with it, only when it is used."""
    if name != "Speech2Text":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("harmonifuse_espnet.inference.speech2text").Speech2Text
