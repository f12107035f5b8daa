"""Folders for databases that live no longer than their process; those of dead processes are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Final

PREFIX: Final = "aredun-memory-"
_SHARED_MEMORY: Final = Path("/dev/shm")
# Bytes that have to be free in shared memory; without them a database goes among the temporary files.
_MIN_FREE: Final = 256 * 1024 * 1024
# Held by the owner for as long as it lives; the kernel lets go of it however the owner ends.
_LOCK: Final = "owner.lock"


class MemoryFolder:
    """A folder of a process's own, in memory where there is room; it goes with this object.

    If the process is killed, the next one that makes such a folder removes it. Making one blocks for about a
    millisecond.

    Attributes
    ----------
    path : Path
        The folder.
    """

    def __init__(self) -> None:
        parent = _choose_parent()
        _remove_dead(parent)
        # Under another name until it is locked: without a lock it would pass for that of a dead process.
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        lock = _try_lock(made / _LOCK)
        self.path = made.rename(parent / made.name.removeprefix("."))
        self.remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _choose_parent() -> Path:
    """Return the folder that new folders are made in."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free >= _MIN_FREE:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove_dead(parent: Path) -> None:
    """Remove the folders that nobody holds any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            lock = _try_lock(folder / _LOCK)
        except OSError:
            # Somebody else's, or just being removed.
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor of a file that was locked just now, None if somebody holds its lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path, lock: int | None, pid: int) -> None:
    """Remove a folder and let go of its lock; a process that was forked from the owner's leaves it alone."""
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)
