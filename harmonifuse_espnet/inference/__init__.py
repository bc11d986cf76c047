"""Inference with a trained model: transcripts, label probabilities, forced alignment, features, packed models."""
