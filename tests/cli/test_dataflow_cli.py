"""`aredun dataflow` on a repository that redun made."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from redun import Scheduler
from redun.backends import db as redun_db
from redun.backends.db.dataflow import display_dataflow, make_dataflow_dom, serialize_dataflow, walk_dataflow

from aredun.cli import main
from tests.support.dataflow_workflows import main_files, main_merge

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """A repository with one execution of two workflows, and what redun says of it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'redun.db'}"
        self.file = folder / "file_0.txt"
        self.backend = redun_db.RedunBackendDb(db_uri=self.url)
        self.backend.load(migrate=True)
        scheduler = Scheduler(backend=self.backend)
        scheduler.run(main_files(str(folder)))
        scheduler.run(main_merge())
        session = self.backend.session
        self.call = session.query(redun_db.CallNode).filter_by(task_name="dataflow_shapes.main_merge").one()
        self.path_value = session.query(redun_db.File).filter_by(path=str(self.file)).one().value

    def close(self) -> None:
        """Close redun's connections."""
        self.backend.session.close()
        self.backend.engine.dispose()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository on a sqlite file."""
    return Repository(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command and return what it writes."""
    code = main(["dataflow", *arguments])
    written = capsys.readouterr()
    assert code == 0, written.err
    return written.out


def test_text_is_redun_s(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    edges = walk_dataflow(repository.backend, repository.path_value)
    expected = "".join(f"{line}\n" for line in display_dataflow(make_dataflow_dom(edges)))
    assert run(capsys, "--db", repository.url, str(repository.file)) == expected
    assert run(capsys, "--db", repository.url, repository.path_value.value_hash[:12]) == expected
    repository.close()


def test_json_is_redun_s(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    edges = walk_dataflow(repository.backend, repository.call.value)
    expected = list(serialize_dataflow(make_dataflow_dom(edges, new_varname="result")))
    written = run(capsys, "--db", repository.url, repository.call.call_hash[:12], "--format", "json")
    assert json.loads(written) == expected
    job = repository.call.jobs[0].id
    assert json.loads(run(capsys, "--db", repository.url, job, "--format", "json")) == expected
    repository.close()


def test_downstream(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--db", repository.url, str(repository.file), "--downstream")
    text = run(capsys, *arguments)
    assert text.startswith(f"value {repository.path_value.value_hash[:8]}\n  --> ")
    assert "result of dataflow_shapes.read_files" in text
    edges = json.loads(run(capsys, *arguments, "--format", "json"))
    assert [edge["seq"] for edge in edges] == list(range(1, len(edges) + 1))
    assert edges[0]["src"] == {"kind": "Value", "value_hash": repository.path_value.value_hash}
    assert json.loads(run(capsys, *arguments, "--format", "json", "--max-edges", "2")) == edges[:2]
    assert len(json.loads(run(capsys, *arguments, "--format", "json", "--depth", "0"))) == 0
    repository.close()


@pytest.mark.parametrize(
    ("language", "first", "arrow"), [("mermaid", "flowchart TD", "-->"), ("dot", "digraph", "->")]
)
def test_pictures(
    repository: Repository, capsys: pytest.CaptureFixture[str], language: str, first: str, arrow: str
) -> None:
    up = run(capsys, "--db", repository.url, str(repository.file), "--format", language)
    down = run(capsys, "--db", repository.url, str(repository.file), "--format", language, "--downstream")
    assert up.startswith(first)
    assert f"n1 {arrow} n0" in up
    assert f"n0 {arrow} n1" in down
    repository.close()


def test_svg_is_drawn_by_graphviz(
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A program of that name stands in for Graphviz: what it gets, and what becomes of what it says.
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = -Tsvg ] && grep -q digraph && echo "<svg/>"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    arguments = ("--db", repository.url, str(repository.file), "--format", "svg")
    assert run(capsys, *arguments) == "<svg/>\n"
    program.write_text("#!/bin/sh\ncat > /dev/null; echo no memory >&2; exit 3\n")
    assert main(["dataflow", *arguments]) == 2
    assert capsys.readouterr().err == "aredun: Graphviz could not draw the dataflow: no memory\n"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(["dataflow", *arguments]) == 2
    assert "install it ('apt install graphviz')" in capsys.readouterr().err
    repository.close()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no such id"], "no record has an id that begins with 'no such id'"),
        (["--depth", "-1"], "max_depth must be a whole number of 0 or more, not -1."),
        (["--format", "pdf"], "invalid choice: 'pdf'"),
    ],
)
def test_bad_input_is_one_line(
    repository: Repository, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    given = arguments if arguments[0] == "no such id" else [str(repository.file), *arguments]
    assert main(["dataflow", "--db", repository.url, *given]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("aredun: ")
    assert problem in written.err
    assert written.err.count("\n") == 1
    repository.close()
