"""One thin command a stage: parse the arguments, call the package, print a summary."""
