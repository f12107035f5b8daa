"""Folders for databases that live no longer than their process; those of dead processes are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
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

    If the process is killed, the next one of the same user that makes such a folder removes it: what is left
    in shared memory in any case, what is left among the temporary files when it has to go there itself.
    Until then those are the system's to clear, as all temporary files, and there may be too many to look
    through each time. Making one blocks for about a millisecond.

    Attributes
    ----------
    path : Path
        The folder.
    """

    def __init__(self) -> None:
        # Before the free space is measured: folders of dead processes may fill the memory.
        _remove_dead(_SHARED_MEMORY)
        parent = _choose_parent()
        if parent != _SHARED_MEMORY:
            _remove_dead(parent)
        self.path, lock = _make(parent)
        self.remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _make(parent: Path) -> tuple[Path, int]:
    """Make a folder, and return it with the descriptor of its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _try_lock(folder)
        if lock is not None:
            return folder, lock
        # Another process took the folder, not locked yet, for a dead one's, and is removing it: try again.


def _choose_parent() -> Path:
    """Return the folder that new folders are made in."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free >= _MIN_FREE:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove_dead(parent: Path) -> None:
    """Remove this user's folders that nobody holds any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        if not _is_own(folder):
            continue
        try:
            lock = _try_lock(folder)
        except OSError:
            # Its lock is a link, or cannot be made.
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _is_own(folder: Path) -> bool:
    """Tell whether a path is a folder of this user's, and no link to one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _try_lock(folder: Path) -> int | None:
    """Return the descriptor of a folder's lock, None if somebody else holds it or the folder is gone."""
    path = folder / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it until now may have removed it.
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _remove(path: Path, lock: int, pid: int) -> None:
    """Remove a folder and let go of its lock; a process that was forked from the owner's leaves it alone."""
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
