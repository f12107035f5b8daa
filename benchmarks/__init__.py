"""Benchmarks of aredun beside redun, in one run: `python -m benchmarks [record ...]`."""
