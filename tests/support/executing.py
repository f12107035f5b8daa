"""A workflow that runs on any executor, as a module of its own for each engine."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa

from aredun.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aredun import RedunBackendDb

IMPORTS = {
    "aredun": "from aredun import task\nfrom aredun.values import ContentFile as File\n"
    "from aredun.workflow.operators import catch",
    "redun": "from redun import catch, task\nfrom redun.file import ContentFile as File",
}

# The import is all that differs between the two modules.
SOURCE = '''
import os
import signal
import subprocess
import time
from concurrent.futures import CancelledError

redun_namespace = "executing"


@task()
def make_file(path: str, text: str) -> File:
    file = File(path)
    file.write(text)
    return file


@task()
def count(file: File) -> dict:
    return {"path": file.path, "counts": [len(file.read()), ("x", None)]}


@task()
def add(a: int, b: int = 10) -> int:
    return a + b


@task()
def spread(n: int) -> list:
    return [add(i, b=i) for i in range(n)]


@task()
def fail(message: str) -> None:
    if message:
        raise ValueError(message, [message])


@task()
def recover(error: Exception) -> str:
    return repr(error)


@task()
def main(folder: str) -> dict:
    numbers = spread(3)
    return {
        "count": count(make_file(folder + "/a.txt", text="hello")),
        "sum": add(numbers[0], numbers[2]) + 1,
    }


@task()
def recovering(text: str) -> str:
    return catch(fail(text), ValueError, recover)


@task()
def pid(x: int) -> int:
    return os.getpid()


@task()
def sleep(seconds: float, path: str = "") -> float:
    if path:
        child = subprocess.Popen(["sleep", "60"])
        with open(path + ".new", "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        os.rename(path + ".new", path)
    time.sleep(seconds)
    return seconds


@task()
def die_once(path: str) -> str:
    """End the process, unless it has been done before."""
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@task()
def leave() -> None:
    raise SystemExit(3)


@task()
def stop_waiting() -> None:
    raise CancelledError


@task()
def make_large(size: int) -> list:
    return ["x" * size, size]


@task()
def make_open_file(path: str) -> object:
    return open(path, "w")

'''


def import_flow(folder: Path, engine: str) -> Any:
    """Write the module of an engine into a folder, and import it as other processes do."""
    name = f"executing_{engine}"
    (folder / f"{name}.py").write_text(IMPORTS[engine] + "\n" + SOURCE)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


# What is of one run alone; the rest has to be the same whoever runs it.
_OWN_COLUMNS = {
    "job": ("id", "start_time", "end_time", "parent_id", "execution_id"),
    "execution": ("id", "args", "updated_time", "job_id"),
    "call_node": ("timestamp",),
    "tag": ("tag_hash", "entity_id"),
}


async def read_graph(backend: RedunBackendDb) -> dict[str, Counter[tuple[Any, ...]]]:
    """Return all rows of a repository by table, but for what is of one run alone."""
    graph: dict[str, Counter[tuple[Any, ...]]] = {}
    async with backend.session() as session:
        for table in Base.metadata.sorted_tables:
            columns = [each for each in table.c if each.name not in _OWN_COLUMNS.get(table.name, ())]
            if table.name not in ("redun_version", "tag", "tag_edit") and columns:
                rows = await session.execute(sa.select(*columns))
                graph[table.name] = Counter(map(tuple, rows))
    return graph


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not is_so():  # noqa: ASYNC110 - other processes set no events
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended counts as gone before its parent has noticed."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
