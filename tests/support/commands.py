"""The two commands, `aredun` and the real `redun`, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


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
    return subprocess.run(
        [str(BIN / program), *arguments],
        cwd=cwd,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def run_aredun(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `aredun`."""
    return run_command("aredun", *arguments, cwd=cwd, **environment)


def run_redun(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real `redun`; anything but success fails the test."""
    done = run_command("redun", *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
