"""What pyproject.toml declares; run as a module, whether just the lowest of it is installed."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
# What people install to use aredun; the others are for its own tests and checks.
EXTRAS = ("aws", "completion", "dask", "redun", "server")


def read_project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return project


def find_others() -> list[str]:
    """Return what is installed in another version than the lowest that is declared, as text."""
    project = read_project()
    declared = project["dependencies"] + [
        each for extra in EXTRAS for each in project["optional-dependencies"][extra]
    ]
    others = []
    for requirement in declared:
        name, lowest = requirement.split(">=")
        installed = version(name.split("[")[0])
        if _split(installed) != _split(lowest):
            others.append(f"{requirement} is declared, but the tests would run with {installed}")
    return others


def _split(number: str) -> list[int]:
    parts = [int(part) for part in number.split(".") if part.isdigit()]
    while parts and not parts[-1]:
        parts.pop()
    return parts


if __name__ == "__main__":
    sys.exit("\n".join(find_others()) or 0)
