"""What has to be installed: pyproject.toml and the table of CONTRIBUTING agree."""

from __future__ import annotations

import re

from tests.support.dependencies import CHECKOUT, read_project


def test_each_runtime_dependency_says_what_it_is_for() -> None:
    section = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("## Runtime dependencies")[2]
    documented = re.findall(r"^\| `([^`]+)` \| .+ \|$", section.partition("\n## ")[0], re.MULTILINE)
    declared = [requirement.partition(">=")[0] for requirement in read_project()["dependencies"]]
    assert sorted(documented) == sorted(declared)


def test_each_extra_is_told_of() -> None:
    section = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("## Runtime dependencies")[2]
    told = re.findall(r"`(\w+)` \(", section.partition("Extras:")[2].partition("\n## ")[0])
    assert sorted(told) == sorted(read_project()["optional-dependencies"])
