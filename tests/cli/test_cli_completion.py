"""`aredun completion` writes scripts; that of bash is asked by a real bash."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aredun.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def complete(script: str, folder: Path, line: str) -> list[str]:
    """Return what bash offers for the last word of a line, in a folder that has two files and a folder."""
    for name in ("words.py", "words.json"):
        (folder / name).touch()
    (folder / "workdir").mkdir()
    words = [*shlex.split(line), ""] if line.endswith(" ") else shlex.split(line)
    asked = (
        f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        "read -r _ _ _ _ function _ < <(complete -p aredun)\n"
        '"$function"; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc"], input=f"{script}\n{asked}", cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("aredun da", ["dataflow"]),
        ("aredun d", ["dataflow", "db", "diff"]),
        ("aredun --db sqlite:///x.db lo", ["log"]),
        ("aredun db up", ["upgrade"]),
        ("aredun dataflow --do", ["--downstream"]),
        ("aredun dataflow --format s", ["svg"]),
        ("aredun log -n 3 --ta", ["--tag", "--task", "--task-hash", "--task-name"]),
        ("aredun completion ", ["bash", "tcsh", "zsh"]),
        ("aredun run wor", ["words.json", "words.py", "workdir"]),
        ("aredun run --context-file words.j", ["words.json"]),
        ("aredun log words.p", ["words.py"]),
        ("aredun export -f words.j", ["words.json"]),
        ("aredun sync default words.p", ["words.py"]),
        ("aredun init w", ["workdir"]),
        ("aredun log --config w", ["workdir"]),
        ("aredun -c w", ["workdir"]),
    ],
)
def test_bash_completes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, offered: list[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script, errors = capsys.readouterr()
    assert errors == ""
    assert complete(script, tmp_path, line) == offered


@pytest.mark.parametrize(
    ("shell", "first", "paths"),
    [("zsh", "#compdef aredun", ":DIR:_files -/"), ("tcsh", "complete aredun", "n/--config/d/")],
)
def test_the_scripts_of_other_shells(
    capsys: pytest.CaptureFixture[str], shell: str, first: str, paths: str
) -> None:
    assert main(["completion", shell]) == 0
    script, errors = capsys.readouterr()
    assert errors == ""
    assert first in script
    assert paths in script
    assert "dataflow" in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bash"], "aredun: completion needs shtab: install aredun[completion]\n"),
        (["cmd"], "aredun: argument SHELL: invalid choice: 'cmd'"),
    ],
)
def test_what_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1
