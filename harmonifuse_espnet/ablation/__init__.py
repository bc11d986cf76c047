"""Variants of a training, their runs, and the statistics of their comparison."""
