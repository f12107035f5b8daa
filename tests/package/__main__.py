"""Build wheel and sdist, look into them, and use the wheel as a stranger would: `make package`.

For each Python the wheel is installed into an environment that has nothing else, where the tutorial's first
commands have to write what the tutorial shows. A type checker reads the package once. A Python that is not on
this machine is named at the end; one that was asked for by name has to be there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.support.dependencies import CHECKOUT, read_project
from tests.support.snippets import QUICKSTART, find_blocks, is_shown, split_console

PYTHONS = ["3.11", "3.12", "3.13"]
CLIENT = Path(__file__).with_name("client.py")
TOOLS = Path(sys.executable).parent
# What an environment of its own must not see of this one.
HIDDEN = {"PYTHONPATH", "VIRTUAL_ENV", "REDUN_CONFIG", "PYTHONHOME"}


class PackageError(Exception):
    """What is wrong with the package."""


def run(*command: str | Path, folder: Path = CHECKOUT, environment: Path | None = None) -> str:
    """Run a command, in an environment of its own if one is given, and return what it writes."""
    variables = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    if environment is not None:
        variables["PATH"] = f"{environment / 'bin'}:{variables['PATH']}"
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackageError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stderr + done.stdout


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def list_tracked(*folders: str) -> set[str]:
    """Return the files of the checkout that git knows, below some folders."""
    return set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders).splitlines())


def compare(what: str, there: set[str], wanted: set[str]) -> None:
    """Refuse a package that has not what it should, or more."""
    if there != wanted:
        raise PackageError(f"{what}: missing {sorted(wanted - there)}, too much {sorted(there - wanted)}")
    say(f"{what}: {len(there)} files, as they should be")


def check_wheel(wheel: Path) -> None:
    """Look into the wheel: the package, its migrations, and what says what it is."""
    project = read_project()
    about = f"aredun-{project['version']}.dist-info"
    parts = ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE", "RECORD")
    wanted = {
        f"aredun/{name}" if name.startswith("migrations/") else name
        for name in list_tracked("aredun", "migrations")
    }
    with zipfile.ZipFile(wheel) as archive:
        compare(wheel.name, set(archive.namelist()), wanted | {f"{about}/{part}" for part in parts})
        metadata = archive.read(f"{about}/METADATA").decode()
    if "aredun/py.typed" not in wanted:
        raise PackageError("py.typed is missing")
    told = set(re.findall(r"^Provides-Extra: (\S+)$", metadata, re.MULTILINE))
    compare("extras", told, set(project["optional-dependencies"]))


def check_sdist(sdist: Path) -> None:
    """Look into the sdist: what a change and its tests need."""
    root = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        there = {name.removeprefix(f"{root}/") for name in archive.getnames()}
    folders = ("aredun", "migrations", "tests", "docs", "examples", "benchmarks")
    files = ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    more = ("Makefile", "mkdocs.yml", "pyproject.toml", "uv.lock", ".gitignore", "PKG-INFO")
    compare(sdist.name, there, list_tracked(*folders) | {*files, *more})


def find_python(python: str) -> str | None:
    """Return the interpreter of a version, if one is where uv looks or where pyenv keeps its own."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for name in (python, *map(str, sorted(kept.glob(f"{python}.*/bin/python")))):
        try:
            return run(TOOLS / "uv", "python", "find", "--no-project", "--no-python-downloads", name).strip()
        except PackageError:
            continue
    return None


def make_environment(environment: Path, interpreter: str, wheel: Path) -> None:
    """Install the wheel into an environment that has nothing else."""
    run(TOOLS / "uv", "venv", "--quiet", "--python", interpreter, environment)
    run(TOOLS / "uv", "pip", "install", "--quiet", "--python", environment, wheel)


def try_tutorial(folder: Path, environment: Path) -> None:
    """Run the tutorial's first commands, and compare what they write with what it shows."""
    folder.mkdir()
    blocks = find_blocks(QUICKSTART)
    workflow = next(block for block in blocks if block.kind == "python")
    (folder / "words.py").write_text(workflow.text)
    commands = split_console(next(block for block in blocks if block.kind == "console"))
    for command, shown in commands:
        written = run("bash", "-c", command, folder=folder, environment=environment)
        if not is_shown(shown, written):
            raise PackageError(f"$ {command}\n{written}\nand not\n{shown}")
    used = run(
        "python", "-c", "import aredun; print(aredun.__file__)", folder=folder, environment=environment
    )
    if not used.startswith(str(environment)):
        raise PackageError(f"{used.strip()} was tried, which is not what was installed")


def check_types(folder: Path, environment: Path) -> None:
    """Have a program that uses the package checked, as strictly as can be."""
    shutil.copy(CLIENT, folder)
    python = environment / "bin" / "python"
    run(TOOLS / "mypy", "--strict", "--python-executable", python, CLIENT.name, folder=folder)


def use(wheel: Path, folder: Path, interpreters: dict[str, str]) -> None:
    """Use the wheel with each Python."""
    is_typed = False
    for python, interpreter in interpreters.items():
        environment = folder / f"python{python}"
        make_environment(environment, interpreter, wheel)
        try_tutorial(folder / f"tutorial{python}", environment)
        say(f"Python {python}: installed, and the tutorial's first commands do what it shows")
        if not is_typed:
            check_types(folder, environment)
            say(f"Python {python}: mypy --strict reads the types of the package")
            is_typed = True


def main(named: list[str]) -> int:
    """Build it, look at it, use it; returns the exit status."""
    found = {python: find_python(python) for python in named or PYTHONS}
    interpreters = {python: interpreter for python, interpreter in found.items() if interpreter}
    missing = ", ".join(python for python in found if python not in interpreters)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        try:
            # The wheel is built from the sdist: whoever has the one can make the other.
            run(TOOLS / "uv", "build", "--quiet", "--out-dir", folder / "dist")
            (wheel,) = (folder / "dist").glob("*.whl")
            (sdist,) = (folder / "dist").glob("*.tar.gz")
            check_wheel(wheel)
            check_sdist(sdist)
            use(wheel, folder, interpreters)
        except PackageError as error:
            say(f"the package is not what it should be: {error}")
            return 1
    if missing:
        say(f"NOT TRIED, because this machine has no such Python: {missing}")
    return 1 if missing and (named or not interpreters) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
