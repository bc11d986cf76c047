"""Shared code: errors, command line, configurations, files, progress, resuming, masks, experiment folders."""
