"""Ablations: variants of a training configuration, their runs, and significance tests."""
