"""`:memory:` leaves nothing in shared memory, however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.storage import memory_folders
from aredun.storage.memory_folders import PREFIX, MemoryFolder

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
    memory_folders._remove(second.path, -1, os.getpid() + 1)
    assert second.path.is_dir()
    second.remove()


def test_full_shared_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_folders, "_MIN_FREE", 1 << 60)
    folder = MemoryFolder()
    assert folder.path.parent == Path(tempfile.gettempdir())
    assert folder.path.name.startswith(PREFIX)
    folder.remove()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of shared memory."""
    monkeypatch.setattr(memory_folders, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(memory_folders, "_MIN_FREE", 0)
    return tmp_path


def test_a_kill_before_the_lock_leaves_nothing_for_ever(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: Path) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memory_folders, "_try_lock", die)
        with pytest.raises(KeyboardInterrupt):
            MemoryFolder()
    [left] = shared.iterdir()
    folder = MemoryFolder()
    assert list(shared.iterdir()) == [folder.path] != [left]
    folder.remove()


@pytest.mark.parametrize("when", ["gone", "locked"])
def test_a_folder_that_another_process_takes_for_dead(
    shared: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """One that is not locked yet may be removed: its owner makes another."""
    made, held = [], []
    mkdtemp = tempfile.mkdtemp

    def be_late(**options: Any) -> str:
        made.append(Path(mkdtemp(**options)))
        if len(made) == 1 and when == "locked":
            held.append(memory_folders._try_lock(made[0]))
        elif len(made) == 1:
            memory_folders._remove_dead(shared)
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", be_late)
    folder = MemoryFolder()
    assert folder.path == made[1]
    assert made[0].exists() == (when == "locked")
    folder.remove()
    for lock in held:
        assert lock is not None
        os.close(lock)


@pytest.mark.parametrize("linked", ["lock", "folder"])
def test_links_are_not_followed(shared: Path, tmp_path_factory: pytest.TempPathFactory, linked: str) -> None:
    target = tmp_path_factory.mktemp("target")
    left = shared / f"{PREFIX}link"
    if linked == "folder":
        left.symlink_to(target)
    else:
        left.mkdir()
        (left / "owner.lock").symlink_to(target / "made")
    MemoryFolder().remove()
    assert list(target.iterdir()) == []
    assert left.exists()


def test_room_that_the_dead_hold_is_made_first(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = shared / f"{PREFIX}dead"
    dead.mkdir()
    monkeypatch.setattr(memory_folders, "_MIN_FREE", 1 << 60)
    folder = MemoryFolder()
    assert folder.path.parent == Path(tempfile.gettempdir())
    assert not dead.exists()
    folder.remove()
