"""What every room uses: errors, command line, configurations, files, progress, resuming, masks, experiment folders."""
