"""The files that tell others how to build, test and install agree with each other and with pyproject.toml."""

from __future__ import annotations

import re
import tomllib

import yaml

from tests.support.dependencies import CHECKOUT, read_project
from tests.support.snippets import find_pages

LOCK = tomllib.loads((CHECKOUT / "uv.lock").read_text())
WORKFLOW = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())


def normalize(requirement: str) -> str:
    """Return a requirement as a lock file writes it."""
    return re.sub(r"[\[\],><=.\-_ ]+", " ", requirement).strip().lower()


def test_the_lock_file_is_that_of_the_project() -> None:
    """Where it is not: `make lock`."""
    (own,) = [package for package in LOCK["package"] if package["name"] == "aredun"]
    project = read_project()
    assert own["version"] == project["version"]
    declared = {(None, normalize(each)) for each in project["dependencies"]}
    for extra, requirements in project["optional-dependencies"].items():
        declared |= {(extra, normalize(each)) for each in requirements if not each.startswith("aredun[")}
    locked = set()
    for each in own["metadata"]["requires-dist"]:
        if each["name"] != "aredun":
            extra = re.search(r"extra == '(\w+)'", each.get("marker", ""))
            words = (each["name"], *each.get("extras", ()), each.get("specifier", ""))
            locked.add((extra and extra[1], normalize(" ".join(words))))
    assert locked == declared


def test_the_lock_file_holds_for_everybody() -> None:
    for package in LOCK["package"]:
        if package["name"] != "aredun":
            assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
            files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
            assert all(each["url"].startswith("https://files.pythonhosted.org/") for each in files)


def test_github_runs_what_ci_runs() -> None:
    lines = (CHECKOUT / ".ci" / "run").read_text().splitlines()
    wanted = {line.split()[1] for line in lines if line.startswith("make ")}
    steps = [step.get("run", "") for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    assert {step.split()[1] for step in steps if step} == wanted


def test_each_python_that_is_declared_is_tested() -> None:
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(read_project()["classifiers"]))
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == declared
    assert read_project()["requires-python"] == f">={declared[0]}"


def test_pages_show_the_version_that_this_is() -> None:
    for page in find_pages():
        shown = set(re.findall(r'"aredun (\d[\w.]+)"', (CHECKOUT / page).read_text()))
        assert shown <= {read_project()["version"]}, page


def test_compose_starts_commands_that_exist() -> None:
    from aredun.cli.parsers import make_parser

    services = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]
    commands = [service["command"] for service in services.values() if "command" in service]
    assert len(commands) == 2
    for command in commands:
        make_parser().parse_args(command)
