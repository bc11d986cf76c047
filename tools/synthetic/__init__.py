"""Synthetic corpora and randomly initialised models in the formats of licensed or large ones, created in seconds."""
