"""Run benchmarks: all of them, or those that are named."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import benchmarks

# What the benchmarks share; everything else in this folder is one.
HELPERS = {"__main__", "support", "repository"}


def main() -> None:
    """Run `main([])` of each benchmark module."""
    known = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    names = [name for name in known if name not in HELPERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", nargs="*", choices=[[], *names], help="default: all of them")
    for name in parser.parse_args().benchmark or names:
        importlib.import_module(f"benchmarks.{name}").main([])


if __name__ == "__main__":
    main()
