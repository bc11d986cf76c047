"""ESPnet's trainer: the task class, its options, parameter groups, and estimates of memory and time."""
