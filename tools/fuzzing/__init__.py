"""Damaged input files for the readers of text, and checks that the readers refuse or keep all of their content."""
