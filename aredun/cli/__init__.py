"""The `aredun` command."""

from aredun.cli.main import main

__all__ = ["main"]
