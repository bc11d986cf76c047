"""Shared by all subpackages: errors, command line, configurations, files, progress, resuming, masks, experiment folders."""
