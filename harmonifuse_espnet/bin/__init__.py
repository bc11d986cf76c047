"""Commands, one for each stage: parse the arguments, call the package, print a summary."""
