"""Shared by all rooms: errors, command line, configurations, files, progress, resuming, masks, experiment folders."""
