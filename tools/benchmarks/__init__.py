"""The benchmarks. Each module has ``add_arguments(parser)`` and ``run(args)``."""
