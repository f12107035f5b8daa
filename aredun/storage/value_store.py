"""Large values beside the database, in redun's layout: `<root>/ab/cdef...` for the value `abcdef...`."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from aredun.errors import InvalidValueError, RedunDatabaseError
from aredun.formats.hashing import hash_tag_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# What may become part of a path.
_NAME = re.compile(r"[0-9A-Za-z]{3,64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
# Python's own types whose values are not hashed over their bytes.
_OTHER_RECIPES = {"builtins.set", "builtins.function"}


class CorruptValueError(InvalidValueError):
    """The value store holds something else under a value's hash than the value."""


class ValueStore:
    """
    Stores the bytes of large values in a folder or in an object store (mirrors redun's `ValueStore`).

    Everything that touches the store runs in a thread. Writes are atomic: whoever reads, redun included, sees
    a value whole or not at all. Storing what is there already costs one look.

    Parameters
    ----------
    root_path : str
        A local folder or any location that fsspec knows (`s3://bucket/prefix`, `memory://...`). Created by
        the first write.
    use_subdir : bool
        False stores all values directly under the root.
    """

    def __init__(self, root_path: str, use_subdir: bool = True) -> None:
        self.root_path = root_path
        self.use_subdir = use_subdir
        self._opened: _Location | None = None
        self._corrupt: set[str] = set()

    def get_value_path(self, value_hash: str) -> str:
        """Return the full path of a value's file, whether or not it is there."""
        return f"{self.root_path.rstrip('/')}/{self._relative_path(value_hash)}"

    async def has(self, value_hash: str) -> bool:
        """Tell whether the store holds a value."""
        return await self.size(value_hash) >= 0

    async def size(self, value_hash: str) -> int:
        """
        Return the size of a stored value.

        Parameters
        ----------
        value_hash : str

        Returns
        -------
        int
            In bytes; -1 if the value is missing.

        Raises
        ------
        RedunDatabaseError
            If the store cannot be reached.
        """
        return await asyncio.to_thread(self._size, value_hash)

    async def put(self, value_hash: str, data: bytes) -> bool:
        """
        Store a value; when this returns, the value survives a crash.

        What is there already is not written again, unless it has another size, as an interrupted writer
        leaves it, or `get` found it corrupt.

        Parameters
        ----------
        value_hash : str
        data : bytes
            The serialized value.

        Returns
        -------
        bool
            False if it was there already.

        Raises
        ------
        RedunDatabaseError
            If the store cannot be written to.
        """
        return await asyncio.to_thread(self._put, value_hash, data)

    async def get(self, value_hash: str, type_name: str | None = None) -> tuple[bytes, bool]:
        """
        Read a value and check it.

        Parameters
        ----------
        value_hash : str
        type_name : str, optional
            The value's type (`value.type`); it helps to tell damage from a hash that is not taken over bytes.

        Returns
        -------
        tuple[bytes, bool]
            The bytes and True; `(b"", False)` if the value is missing.

        Raises
        ------
        CorruptValueError
            If the bytes are not the value's (see `is_intact`).
        RedunDatabaseError
            If the store cannot be reached.
        """
        return await asyncio.to_thread(self._get, value_hash, type_name)

    async def iter_hashes(self) -> AsyncIterator[str]:
        """
        Iterate over the hashes of all stored values, in ascending order.

        Yields
        ------
        str
            Files that are not values are passed over. Values that are stored meanwhile may or may not appear.

        Raises
        ------
        RedunDatabaseError
            If the store cannot be reached.
        """
        prefixes = sorted(await asyncio.to_thread(self._list, "", _PREFIX)) if self.use_subdir else [""]
        for prefix in prefixes:
            rest = re.compile(f"[0-9a-f]{{{40 - len(prefix)}}}")
            for name in sorted(await asyncio.to_thread(self._list, prefix, rest)):
                yield prefix + name

    def _relative_path(self, value_hash: str) -> str:
        if not _NAME.fullmatch(value_hash):
            raise InvalidValueError(f"{value_hash!r} is not a value hash: give 40 hexadecimal digits")
        return f"{value_hash[:2]}/{value_hash[2:]}" if self.use_subdir else value_hash

    def _location(self) -> _Location:
        if self._opened is None:
            self._opened = _open_location(self.root_path)
        return self._opened

    @contextmanager
    def _explain(self, verb: str, name: str) -> Iterator[None]:
        """Make one line of whatever a file system raises (each has errors of its own)."""
        try:
            yield
        except Exception as error:
            action = f"cannot {verb} {name or 'values'} in the value store {self.root_path}"
            raise RedunDatabaseError(f"{action}: {' '.join(str(error).split())}") from error

    def _size(self, value_hash: str) -> int:
        path = self._relative_path(value_hash)
        with self._explain("look up", value_hash):
            return self._location().size(path)

    def _put(self, value_hash: str, data: bytes) -> bool:
        path = self._relative_path(value_hash)
        with self._explain("store", value_hash):
            location = self._location()
            if value_hash not in self._corrupt and location.size(path) == len(data):
                return False
            location.write(path, data)
            self._corrupt.discard(value_hash)
            return True

    def _get(self, value_hash: str, type_name: str | None) -> tuple[bytes, bool]:
        path = self._relative_path(value_hash)
        with self._explain("read", value_hash):
            try:
                data = self._location().read(path)
            except FileNotFoundError:
                return b"", False
        if not is_intact(value_hash, data, type_name):
            # So that the next writer of the value repairs it.
            self._corrupt.add(value_hash)
            raise CorruptValueError(
                f"the value store holds {len(data)} bytes that are not the value {value_hash} "
                f"({self.get_value_path(value_hash)}): restore or delete the file"
            )
        return data, True

    def _list(self, folder: str, pattern: re.Pattern[str]) -> list[str]:
        with self._explain("list", folder):
            return [name for name in self._location().list_names(folder) if pattern.fullmatch(name)]


def is_intact(value_hash: str, data: bytes, type_name: str | None = None) -> bool:
    """
    Check a value's bytes against its hash, as far as bytes can tell.

    Most values are hashed over their bytes. Files, handles, errors, tasks, sets and classes with a hash of
    their own are not; of these it is only seen that they are not empty and not cut short.

    Parameters
    ----------
    value_hash : str
    data : bytes
        The serialized value.
    type_name : str, optional
        The value's type (`value.type`).

    Returns
    -------
    bool
        False if the bytes are certainly not the value's.
    """
    if hash_tag_bytes("Value", data) == value_hash:
        return True
    if not data:
        return False
    if type_name is not None and type_name.startswith("builtins.") and type_name not in _OTHER_RECIPES:
        return False
    is_pickle = re.match(rb"\x80[\x02-\x05]", data) is not None
    return not is_pickle or data[-1:] == b"."


class _Location(Protocol):
    """Blocking access to the files under a root, by relative path."""

    def size(self, path: str) -> int: ...

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, data: bytes) -> None: ...

    def list_names(self, folder: str) -> Iterator[str]: ...


class _LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)

    def size(self, path: str) -> int:
        try:
            return os.stat(os.path.join(self._root, path)).st_size
        except FileNotFoundError:
            return -1

    def read(self, path: str) -> bytes:
        with open(os.path.join(self._root, path), "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes) -> None:
        target = os.path.join(self._root, path)
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            # mkstemp shuts others out; a shared repository must not.
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)

    def list_names(self, folder: str) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(os.path.join(self._root, folder)) as entries:
            yield from (entry.name for entry in entries)


class _FsspecLocation:
    """A location behind fsspec."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        # Object stores show an object once it is complete; elsewhere a file has to be moved into place.
        self._writes_are_atomic = bool(filesystem.async_impl) or filesystem.protocol == "memory"

    def size(self, path: str) -> int:
        try:
            return int(self._filesystem.info(f"{self._root}/{path}")["size"])
        except FileNotFoundError:
            return -1

    def read(self, path: str) -> bytes:
        data: bytes = self._filesystem.cat_file(f"{self._root}/{path}")
        return data

    def write(self, path: str, data: bytes) -> None:
        target = f"{self._root}/{path}"
        if self._writes_are_atomic:
            self._filesystem.pipe_file(target, data)
            return
        temporary = f"{target}.{os.urandom(6).hex()}.tmp"
        self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._filesystem.pipe_file(temporary, data)
        self._filesystem.mv(temporary, target)

    def list_names(self, folder: str) -> Iterator[str]:
        with suppress(FileNotFoundError):
            for name in self._filesystem.ls(f"{self._root}/{folder}".rstrip("/"), detail=False):
                yield name.rstrip("/").rpartition("/")[2]


def _open_location(root_path: str) -> _Location:
    """Find out what kind of location a path is; imports the file system that it needs."""
    if "://" not in root_path:
        # To fsspec some characters of a path are not what they are to the shell.
        return _LocalFolder(os.path.abspath(os.path.expanduser(root_path)))
    # Whoever has a local store, or none, does not wait for these imports, which take 20 ms.
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        # Listings must not be cached: other processes add values.
        filesystem, root = fsspec.url_to_fs(root_path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RedunDatabaseError(f"value_store_path {root_path!r} cannot be used: {reason}") from error
    if isinstance(filesystem, LocalFileSystem):
        return _LocalFolder(root)
    return _FsspecLocation(filesystem, root)


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# Read once: reading it changes it for an instant, in all threads.
_UMASK = _read_umask()
