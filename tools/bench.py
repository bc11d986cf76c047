"""Benchmarks of harmonifuse_espnet. Each one also times the usual implementation, in the same run."""

from __future__ import annotations

import argparse

from benchmarks import data, encoder, fuzz

BENCHMARKS = [
    data,
    encoder,
    fuzz,
]


def main() -> None:
    """Run the benchmark named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = parser.add_subparsers(metavar="NAME", required=True)
    for module in BENCHMARKS:
        summary = (module.__doc__ or "").partition("\n")[0]
        own = names.add_parser(module.__name__.rpartition(".")[2], help=summary, description=module.__doc__)
        module.add_arguments(own)
        own.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
