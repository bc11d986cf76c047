"""Scores, RESULTS.md and its figures."""
