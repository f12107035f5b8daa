"""The two commands, `aredun` and the real `redun`, run as a user runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.warm import BIN as BIN
from tests.support.warm import warm

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def run_command(
    program: str, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of the virtual environment in a folder; its output is captured.

    Parameters
    ----------
    program : str
        `aredun` or `redun`.
    *arguments : str
        What follows the program's name.
    cwd : Path
        The working folder.
    **environment : str
        Variables to set, beside those of the test run.
    """
    # A repository above the test's folder must not be found, nor one that the environment names.
    variables = {name: value for name, value in os.environ.items() if name != "REDUN_CONFIG"}
    return warm(program).run(*arguments, cwd=cwd, environment={**variables, **environment}, timeout=100)


def run_aredun(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `aredun`."""
    return run_command("aredun", *arguments, cwd=cwd, **environment)


def run_redun(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real `redun`; anything but success fails the test."""
    done = run_command("redun", *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
