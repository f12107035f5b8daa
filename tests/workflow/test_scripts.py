"""Script tasks and `script`: what they do, what redun records of the same, and how they end."""

from __future__ import annotations

import asyncio
import importlib
import logging
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redun

from aredun import File, RedunBackendDb, Scheduler, UsageError, script, task
from aredun.values import Dir
from aredun.workflow.executors import ProcessExecutor
from aredun.workflow.scripts import ScriptError
from tests.support.executing import is_alive, read_graph, until
from tests.support.scheduling import get_statuses
from tests.support.verification import verify

if TYPE_CHECKING:
    from pathlib import Path

redun_namespace = "scripts"

IMPORTS = {
    "aredun": "from aredun import script, task\nfrom aredun.values import ContentFile, IDir, IFile",
    "redun": "from redun import script, task\nfrom redun.file import ContentFile, IDir, IFile",
}

# The import is all that differs between the two modules.
SOURCE = '''
redun_namespace = "scripts"


@task(script=True)
def shout(word: str) -> str:
    return f"""
        echo {word}! && printf '\\\\xff'
        """


@task()
def main(folder: str) -> dict:
    source = ContentFile(folder + "/input file.txt")
    staged = script(
        """
        set +x
        tr a-z A-Z < in.txt > out.txt
        mkdir -p made/deep && cp out.txt made/deep/
        echo EOF
        """,
        inputs=[source.stage(folder + "/in.txt")],
        outputs={
            "file": IFile(folder + "/final.txt").stage(folder + "/out.txt"),
            "folder": IDir(folder + "/all").stage(folder + "/made"),
            "self": IFile(folder + "/out.txt"),
            "stdout": IFile("-"),
        },
    )
    return {
        "staged": staged,
        "list": script(["echo", "a b", "$c"], cache=False),
        "python": script("#!/usr/bin/env python3\\nprint(1)"),
        "shout": shout("hey"),
        "s3": [
            source.stage("x y").render_stage(),
            IFile("s3://b/x").stage("l").render_stage(),
            IDir("s3://b/x").stage("l").render_unstage(),
            IFile("gs://b/x").stage("l").render_stage(),
            IDir("gs://b/x").stage("l").render_unstage(),
            IFile("s3://b/x").stage("gs://b/y").render_stage(),
            IFile("s3://b/x").stage("gs://b/y").render_unstage(),
            IFile("s3://b/x").stage("http://b/y").render_stage(),
            IFile("http://b/x").stage("l").render_stage(),
        ],
    }
'''


def import_flow(folder: Path, engine: str) -> Any:
    """Write the module of an engine into a folder, and import it."""
    (folder / f"scripts_{engine}.py").write_text(IMPORTS[engine] + "\n" + SOURCE)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(f"scripts_{engine}")


async def test_scripts_leave_the_graph_that_redun_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same commands, hashes, calls and results; run again, nothing runs unless a file has changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input file.txt").write_text("some text")
    original = redun.Scheduler(config={"backend": {"db_uri": f"sqlite:///{tmp_path}/redun.db"}})
    original.load()
    expected = original.run(import_flow(tmp_path, "redun").main(str(tmp_path)))
    shutil.rmtree(tmp_path / "all")  # `cp -r` into a folder that is there would make another one in it
    flow = import_flow(tmp_path, "aredun")
    async with (
        RedunBackendDb(f"sqlite:///{tmp_path}/redun.db") as theirs,
        RedunBackendDb(f"sqlite:///{tmp_path}/aredun.db") as ours,
    ):
        async with Scheduler(ours) as scheduler:
            result = await scheduler.run(flow.main(str(tmp_path)))
            assert result["staged"].pop("file").read() == "SOME TEXT"
            assert (tmp_path / "all" / "deep" / "out.txt").read_text() == "SOME TEXT"
            assert result["staged"]["stdout"] == b"EOF\n"
            assert result["list"] == b"a b $c\n"
            assert result["shout"] == b"hey!\n\xff"
            for name in ("list", "python", "shout", "s3"):
                assert result[name] == expected[name]
            graph, wanted = await read_graph(ours), await read_graph(theirs)
            # The three tasks of scripts are known by their versions; each engine has its own source.
            assert {row[0] for row in graph.pop("task")} == {row[0] for row in wanted.pop("task")}
            for table in wanted:
                assert graph[table] == wanted[table], table
            assert (await verify(ours)).problems == []

            await scheduler.run(flow.main(str(tmp_path)))
            assert (await get_statuses(ours))["script_task"] == ["DONE"] * 3
            (tmp_path / "input file.txt").write_text("other")
            result = await scheduler.run(flow.main(str(tmp_path)))
            assert result["staged"]["file"].read() == "OTHER"
            assert (await get_statuses(ours))["script_task"] == ["DONE"] * 4


async def test_failing_script_says_what_it_said(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aredun"):
        with pytest.raises(ScriptError, match="Last line: no such luck") as raised:
            await scheduler.run(script("set +x; echo first; echo 'no such luck' >&2; exit 3"))
    assert "no such luck" in str(raised.value.message)
    lines = [record.getMessage() for record in caplog.records]
    assert {"redun.script_task: first", "redun.script_task: no such luck"} <= set(lines)


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_script_is_killed_with_all_that_it_started(tmp_path: Path, kind: str) -> None:
    """By its timeout, by the run's cancellation; the loop is free meanwhile."""
    mark = tmp_path / "mark"
    command = f"sleep 60 & echo $$ $! > {mark}.new; mv {mark}.new {mark}; sleep 61"
    executors = {"default": ProcessExecutor(1)} if kind == "process" else {}
    async with Scheduler(executors=executors) as scheduler:
        with pytest.raises(TimeoutError):
            await scheduler.run(script(command, timeout=0.3))
        late = [int(text) for text in mark.read_text().split()]
        await until(lambda: not any(map(is_alive, late)))
        mark.unlink()
        run = asyncio.create_task(scheduler.run(script(command)))
        await until(mark.exists)
        pids = [int(text) for text in mark.read_text().split()]
        assert all(map(is_alive, pids))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await until(lambda: not any(map(is_alive, pids)))


async def test_folders_files_and_a_folder_of_its_own(scheduler: Scheduler, tmp_path: Path) -> None:
    """A file is staged into the new folder, and one that is made there comes back; the folder goes."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    call = script(
        "pwd; cat in/a.txt > b.txt",
        inputs=Dir(f"{tmp_path}/in").stage("in"),
        outputs=[File(f"{tmp_path}/b.txt").stage("b.txt"), File("-")],
        tempdir=True,
        retries=1,
    )
    file, output = await scheduler.run(call)
    assert await file.aread() == "a"
    assert ".tempdir" in output.decode()
    assert not File(output.decode().strip()).exists()


@task(script=True)
def number() -> Any:
    """Return no script."""
    return 3


@task(script=True)
async def late() -> str:
    """Return a script, on the loop."""
    return "true"


@pytest.mark.parametrize(
    ("make_call", "message"),
    [
        (lambda: script("true", memry=3), "unknown option memry"),
        (lambda: script("true", inputs=[File("x")]), "an input of a script is File"),
        (number, "a script is <int>: a script task returns the text of one"),
        (late, "is a script and an async def: make it a def"),
    ],
)
async def test_what_is_no_script(scheduler: Scheduler, make_call: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        await scheduler.run(make_call())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
