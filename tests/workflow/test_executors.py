"""Executors: the same graph wherever a function runs, and what happens when a process dies."""

from __future__ import annotations

import asyncio
import re
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redun

from aredun import RedunBackendDb, Scheduler, UsageError, task
from aredun.errors import ExecutorError
from aredun.values import pickle_dumps
from aredun.workflow.executors import Executor, FunctionCall, ProcessExecutor
from aredun.workflow.executors.configured import make_executors
from tests.support.commands import run_aredun
from tests.support.executing import import_flow, is_alive, read_graph, until
from tests.support.scheduling import get_statuses
from tests.support.verification import verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

redun_namespace = "executors"


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of the workflow for aredun, which workers import."""
    return import_flow(tmp_path_factory.mktemp("executing"), "aredun")


@pytest.fixture(scope="session")
def cluster(flow: Any) -> Iterator[Any]:
    """A cluster of dask's in processes of its own."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        resources={"GPU": 1},
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Somebody's pool of processes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def make_executor(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Makes the executor of a kind."""

    def make(kind: str) -> Any:
        if kind == "dask":
            from aredun.workflow.executors.dask import DaskExecutor

            return DaskExecutor(request.getfixturevalue("cluster").scheduler_address, max_result_size=100)
        if kind == "pool":
            return request.getfixturevalue("pool")
        return ProcessExecutor(1) if kind == "process" else ThreadPoolExecutor(2)

    return make


@pytest.fixture
async def memory() -> AsyncIterator[RedunBackendDb]:
    """A repository in memory."""
    backend = RedunBackendDb("sqlite:///:memory:")
    await backend.load(migrate=True)
    async with backend:
        yield backend


@pytest.fixture(scope="session")
def redun_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where redun itself has run the workflow, with a repository of its own."""
    folder: Path = tmp_path_factory.mktemp("redun")
    theirs = import_flow(folder, "redun")
    original = redun.Scheduler(config={"backend": {"db_uri": f"sqlite:///{folder}/redun.db"}})
    original.load()
    result = original.run(theirs.main(str(folder)))
    assert result == {"count": {"path": f"{folder}/a.txt", "counts": [5, ("x", None)]}, "sum": 5}
    return folder


@pytest.mark.parametrize("kind", ["thread", "process", "pool", "dask"])
async def test_graph_is_that_of_redun_wherever_it_ran(
    make_executor: Callable[[str], Any], flow: Any, redun_folder: Path, memory: RedunBackendDb, kind: str
) -> None:
    """All tables hold what redun's own run leaves; an error has the lines that it has in a thread."""
    async with Scheduler(memory, executors={"default": make_executor(kind)}) as scheduler:
        assert (await scheduler.run(flow.main(str(redun_folder))))["sum"] == 5
        async with RedunBackendDb(f"sqlite:///{redun_folder}/redun.db") as theirs:
            assert await read_graph(memory) == await read_graph(theirs)
    async with Scheduler(executors={"far": make_executor(kind)}) as far, Scheduler() as near:
        assert await far.run(flow.recovering.options(executor="far")("a")) == "ValueError('a', ['a'])"
        with pytest.raises(ValueError, match="off") as raised:
            await far.run(flow.fail.options(executor="far")("off"))
        assert await near.run(flow.recovering("a")) == "ValueError('a', ['a'])"
        with pytest.raises(ValueError, match="off"):
            await near.run(flow.fail("off"))
        assert await read_graph(far.backend) == await read_graph(near.backend)
        traceback = far.get_traceback(raised.value)
        assert traceback is not None
        assert "raise ValueError(message, [message])" in "".join(traceback.format())


@pytest.mark.parametrize("kind", ["process", "dask"])
async def test_worker_that_dies_is_a_failed_try(
    make_executor: Callable[[str], Any], flow: Any, memory: RedunBackendDb, tmp_path: Path, kind: str
) -> None:
    """Without retries the call fails, with them it is made again; others are not touched."""
    async with Scheduler(memory, executors={"default": make_executor(kind)}) as scheduler:
        calls = [
            flow.die_once.options(retries=1, retry_delay=0)(f"{tmp_path}/a"),
            flow.add(1),
            flow.add(2, flow.add(3)),
        ]
        assert await scheduler.run(calls) == ["alive", 11, 15]
        with pytest.raises(ExecutorError, match=r"task executing\.die_once was lost") as raised:
            await scheduler.run(flow.die_once(f"{tmp_path}/b"))
        assert "\n" not in str(raised.value)
    assert (await get_statuses(memory))["die_once"] == ["DONE", "FAILED"]


async def test_call_in_a_process_is_killed_with_what_it_started(
    flow: Any, memory: RedunBackendDb, tmp_path: Path
) -> None:
    """When it outlives its timeout, and when the run is cancelled; the next call gets a new process."""
    marks = [tmp_path / "late", tmp_path / "cancelled"]
    async with Scheduler(memory, executors={"default": ProcessExecutor(1)}) as scheduler:
        before = await scheduler.run(flow.pid(1))
        with pytest.raises(TimeoutError, match="timeout of 0\\.3 s"):
            await scheduler.run(flow.sleep.options(timeout=0.3)(60, str(marks[0])))
        run = asyncio.create_task(scheduler.run(flow.sleep(60, str(marks[1]))))
        await until(marks[1].exists)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        pids = [int(text) for mark in marks for text in mark.read_text().split()]
        assert len({before, *pids}) == 4, "a killed worker's place is taken by another one"
        assert pids[0] == before
        await until(lambda: not any(map(is_alive, pids)))
        assert await scheduler.run(flow.add(5)) == 15
    assert (await get_statuses(memory))["sleep"] == ["FAILED", "FAILED"]


async def test_processes_end_with_the_one_that_started_them(flow: Any, tmp_path: Path) -> None:
    """Killed as hard as can be, it leaves nobody behind; what was recorded is not done again."""
    (tmp_path / "run.py").write_text(
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(flow.__file__).parent)!r})\n"
        "from aredun import RedunBackendDb, Scheduler\n"
        "import executing_aredun as flow\n"
        "async def main():\n"
        f"    async with RedunBackendDb('sqlite:///{tmp_path}/redun.db') as backend:\n"
        "        async with Scheduler(backend) as scheduler:\n"
        "            await scheduler.run(flow.add.options(executor='process')(1))\n"
        f"            mark = {str(tmp_path / 'mark')!r}\n"
        "            await scheduler.run(flow.sleep.options(executor='process')(60, mark))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, str(tmp_path / "run.py"))
    await until((tmp_path / "mark").exists)
    process.kill()
    await process.wait()
    pids = [int(text) for text in (tmp_path / "mark").read_text().split()]
    await until(lambda: not any(map(is_alive, pids)))
    async with RedunBackendDb(f"sqlite:///{tmp_path}/redun.db") as backend, Scheduler(backend) as scheduler:
        await scheduler.run(flow.add.options(executor="process")(1))
        assert (await get_statuses(backend))["add"] == ["CACHED", "DONE"]


async def test_call_on_dask_that_is_late_is_left_alone(
    make_executor: Callable[[str], Any], flow: Any, memory: RedunBackendDb
) -> None:
    """Its time begins on the worker; nobody waits for it, and its worker is free again when it ends."""
    async with Scheduler(memory, executors={"default": make_executor("dask")}) as scheduler:
        # Two workers: the last two calls begin after 1.1 seconds, and end after more than the timeout.
        calls = [flow.sleep.options(timeout=2.0)(1.1 + number / 1000) for number in range(4)]
        assert len(await scheduler.run(calls)) == 4, "waiting for a worker does not count"
        with pytest.raises(TimeoutError, match="timeout of 0\\.1 s"):
            await scheduler.run(flow.sleep.options(timeout=0.1)(0.4))
        assert await scheduler.run(flow.add.options(resources={"GPU": 1})(1)) == 11


async def test_large_results_of_dask_come_by_the_value_store(
    make_executor: Callable[[str], Any], flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stores them, under the hash that they are recorded by."""
    config = {"db_uri": f"sqlite:///{tmp_path}/redun.db", "value_store_path": str(tmp_path / "values")}
    backend = RedunBackendDb(config=config)
    await backend.load(migrate=True)
    async with backend, Scheduler(backend, executors={"default": make_executor("dask")}) as scheduler:
        asked = []
        assert backend.value_store is not None
        get = backend.value_store.get

        async def ask(value_hash: str, *rest: Any) -> Any:
            asked.append(value_hash)
            return await get(value_hash, *rest)

        monkeypatch.setattr(backend.value_store, "get", ask)
        assert await scheduler.run(flow.make_large(5000)) == ["x" * 5000, 5000]
        rows = await read_graph(backend)
        assert asked == [row[4] for row in rows["call_node"]]
        assert (await verify(backend)).problems == []


@task()
async def on_loop(x: int) -> int:
    """Run on the loop."""
    return x


@task(executor="nowhere")
def remote(x: int) -> int:
    """Name an executor that there is not."""
    return x


@task()
async def calls_remote(x: int) -> Any:
    """Do much, then call it."""
    done.append(x)
    return await remote(x)


done: list[int] = []


def make_local() -> Any:
    """Return a task that lives in a function."""

    @task(executor="process")
    def local(x: int) -> int:
        return x

    return local


FAULTS: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda flow: flow.add.options(executor="batch")(1),
        "names an unknown executor 'batch'",
    ),
    (lambda flow: flow.add(1, flow.add.options(executor="proces")(2)), "did you mean process"),
    (lambda flow: calls_remote(1), "task executors.remote names an unknown executor 'nowhere'"),
    (lambda flow: make_local()(1), "where no other process can import it"),
    (
        lambda flow: flow.add.options(resources={"GPU": 1})(1),
        "executor 'default' knows nothing",
    ),
    (lambda flow: on_loop.options(executor="process")(1), "is an async def, which runs on the loop"),
]


@pytest.mark.parametrize(("make_call", "message"), FAULTS)
async def test_what_no_executor_can_run_is_refused_before_anything_runs(
    memory: RedunBackendDb, flow: Any, make_call: Callable[[Any], Any], message: str
) -> None:
    async with Scheduler(memory) as scheduler:
        with pytest.raises(UsageError) as raised:
            await scheduler.run(make_call(flow))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert done == []
    assert not (await read_graph(memory))["job"]


async def test_what_cannot_cross_is_an_error_of_one_line(
    make_executor: Callable[[str], Any], flow: Any, memory: RedunBackendDb, tmp_path: Path
) -> None:
    """Results, ends of a process that are none, and another version of the code."""
    async with Scheduler(memory, executors={"default": make_executor("pool")}) as scheduler:
        for call, message in (
            (flow.make_open_file(f"{tmp_path}/x"), "cannot leave its process: TypeError: cannot pickle"),
            (flow.leave(), "task executing.leave called sys.exit(3)"),
            (flow.stop_waiting(), "task executing.stop_waiting raised CancelledError though nobody"),
        ):
            with pytest.raises(Exception, match=re.escape(message)) as raised:
                await scheduler.run(call)
            assert "\n" not in str(raised.value)
        # The pool has the task as it was imported first.
        flow.add.version = "2"
        flow.add.recompute_hash()
        try:
            with pytest.raises(UsageError, match="has other code where it is to run: restart the workers"):
                await scheduler.run(flow.add(1))
        finally:
            flow.add.version = None
            flow.add.recompute_hash()


async def test_executor_of_ones_own(memory: RedunBackendDb, flow: Any) -> None:
    """It gets as many calls at once as it has places, and is opened once and closed."""
    events: list[Any] = []

    class Counting(Executor):
        capacity = 2

        async def open(self, backend: RedunBackendDb) -> None:
            events.append("open")

        async def submit(self, call: FunctionCall) -> Any:
            running.add(call.id)
            events.append(len(running))
            await asyncio.sleep(0.02)
            running.discard(call.id)
            return call.task.func(*call.args, **call.kwargs)

        async def close(self) -> None:
            events.append("close")

    running: set[str] = set()
    async with Scheduler(memory, executors={"own": Counting()}, max_concurrency=1) as scheduler:
        call = flow.add.options(executor="own")
        assert await scheduler.run([call(number) for number in range(6)]) == list(range(10, 16))
    assert (events[0], max(events[1:-1]), events[-1]) == ("open", 2, "close")


def test_executors_of_redun_ini(flow: Any, tmp_path: Path) -> None:
    """The command reads them; one that only redun has is refused when a task names it, and else is not."""
    (tmp_path / "redun.ini").write_text(
        "[executors.default]\ntype = local\nmode = process\nmax_workers = 1\nscratch = /tmp/x\n"
        "[executors.batch]\ntype = aws_batch\nimage = x\n"
    )

    def run(*arguments: str) -> Any:
        return run_aredun("--config", str(tmp_path), "run", flow.__file__, *arguments, cwd=tmp_path)

    shown = run("add", "--a", "1")
    assert (shown.returncode, shown.stdout) == (0, "11\n"), shown.stderr
    batch = run("-o", "executor=batch", "add", "--a", "1")
    assert batch.returncode == 2
    assert "executor 'batch' is of type aws_batch in redun.ini, which only redun has" in batch.stderr
    assert batch.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fibre"}, "[executors.x] mode is 'fibre' in redun.ini: give thread or process"),
        (
            {"max_worker": "1"},
            "unknown option max_worker: did you mean max_workers",
        ),
        ({"max_workers": "0"}, "[executors.x] max_workers is '0' in redun.ini: give a number, 1 or more"),
        ({"type": "dask", "resources": "GPU"}, "[executors.x] resources is 'GPU' in redun.ini: give pairs"),
        ({"type": "dask", "address": "tcp://h:1", "n_workers": "2"}, "has an address"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_executors({"x": options})
    assert message in str(raised.value)


def test_errors_have_the_hash_that_they_have_without_dask() -> None:
    """tblib, which dask brings along, would pickle errors with their tracebacks."""
    import distributed  # noqa: F401
    from tblib import pickling_support

    pickling_support.install()
    try:
        raise ValueError("x")
    except ValueError as error:
        raised = error
    assert (
        pickle_dumps(raised) == b"\x80\x03cbuiltins\nValueError\nq\x00X\x01\x00\x00\x00xq\x01\x85q\x02Rq\x03."
    )
