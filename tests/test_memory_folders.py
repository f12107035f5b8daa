"""`:memory:` leaves nothing in shared memory, however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aredun.backend import RedunBackendDb
from aredun.database import memory_folders
from aredun.database.memory_folders import PREFIX, MemoryFolder

_HOLD = """
import asyncio, os, sys
from aredun.backend import RedunBackendDb

async def main():
    backend = RedunBackendDb("sqlite:///:memory:")
    await backend.load(migrate=True)
    await backend.record_value("x" * 1000)
    print(backend.database.file_path, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    os._exit(0)

asyncio.run(main())
"""


def _start() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit"])
async def test_what_a_dead_process_left_is_removed(end: str) -> None:
    process, path = _start()
    try:
        # While its process lives, others leave it alone.
        async with RedunBackendDb("sqlite:///:memory:"):
            assert path.exists()
        if end == "SIGKILL":
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            process.communicate("\n")
    finally:
        process.kill()
        process.communicate()
    assert path.exists()
    async with RedunBackendDb("sqlite:///:memory:") as backend:
        assert await backend.record_value(1)
        assert not path.parent.exists()
        own = backend.database.file_path
        assert own is not None
        assert own.exists()
    assert not own.parent.exists()


def test_a_folder_of_a_living_object_stays() -> None:
    first = MemoryFolder()
    second = MemoryFolder()
    assert first.path.is_dir()
    first.remove()
    assert not first.path.exists()
    assert second.path.is_dir()
    # The end of a forked process is not that of its parent's folders.
    memory_folders._remove(second.path, None, os.getpid() + 1)
    assert second.path.is_dir()
    second.remove()


def test_full_shared_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_folders, "_MIN_FREE", 1 << 60)
    folder = MemoryFolder()
    assert folder.path.parent == Path(tempfile.gettempdir())
    assert folder.path.name.startswith(PREFIX)
    folder.remove()
