"""Files, sets of files and directories as values (mirrors `redun.file`, whose names these are).

The table of files is the `File` of `aredun.models`.

A file is hashed by cheap properties (path, size, modification time, ETag), not by its content, unless it is a
`ContentFile`. `hash` is computed when first asked for, and again when the file is written or closed.

Everything that looks at a file blocks, `hash` and `is_valid` included; the coroutines `aread`, `awrite`,
`aexists`, `acopy_to` and `aupdate_hash` do the same in a thread.
"""

from __future__ import annotations

import abc
import asyncio
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar, TypeVar

from aredun.formats.hashing import hash_struct
from aredun.values.base import StoredAttributes, Value
from aredun.values.filesystem import FileSystem, get_filesystem, render_copy
from aredun.values.pickling import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class FileClasses:
    """The classes of one family of files, told of each other: each makes others of its own family."""

    File: type[File]
    FileSet: type[FileSet]
    Dir: type[Dir]
    StagingFile: type[StagingFile]
    StagingDir: type[StagingDir]

    def __post_init__(self) -> None:
        for member in (self.File, self.FileSet, self.Dir, self.StagingFile, self.StagingDir):
            member.classes = self


class FamilyMember:
    """A class of a family of files."""

    type_basename: ClassVar[str]
    """What hashes begin with: the name of redun's class, also in a subclass of a workflow's own."""
    classes: ClassVar[FileClasses]


MemberT = TypeVar("MemberT", bound=type[FamilyMember])


def file_class(cls: MemberT) -> MemberT:
    """Declare a class to be aredun's form of the class of `redun.file` that has its name."""
    cls.type_basename = cls.__name__
    return stands_for("redun.file", cls.__name__)(cls)


class LazilyHashed(StoredAttributes):
    """A mixin for values that are hashed by what they find outside, when that is first asked for."""

    _hash: str | None = None

    @abc.abstractmethod
    def _calc_hash(self) -> str:
        """Hash what is there now."""

    @property
    def hash(self) -> str:
        """The hash as last computed; looks at what is there the first time."""
        if not self._hash:
            self._hash = self._calc_hash()
        return self._hash

    @hash.setter
    def hash(self, stored: str) -> None:
        self._hash = stored

    def get_hash(self, data: bytes | None = None) -> str:
        """Return the hash as last computed."""
        return self.hash

    def update_hash(self) -> None:
        """Compute the hash anew from what is there now."""
        self._hash = self._calc_hash()

    def is_valid(self) -> bool:
        """Tell whether all is as it was when the hash was computed."""
        if not self._hash:
            self.update_hash()
            return True
        try:
            return self._hash == self._calc_hash()
        except FileNotFoundError:
            return False


@file_class
class File(LazilyHashed, FamilyMember, Value):
    """
    A file, local or remote (mirrors redun's `File`).

    Parameters
    ----------
    path : str
        A local path or a URL (`s3://`, `gs://`, `https://` ...). The file need not exist.

    Raises
    ------
    ValueError
        If the path is empty.
    """

    type_name = "redun.File"

    def __init__(self, path: str) -> None:
        if not path:
            raise ValueError("a File needs a path or URL, not an empty one")
        self.path: str = os.fspath(path)

    def __repr__(self) -> str:
        return f"{self.type_basename}(path={self.path}, hash={self.hash[:8]})"

    # A value may have thousands of files: going through a table would take half as long again.
    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "hash": self.hash}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._hash = state["hash"]

    @property
    def filesystem(self) -> FileSystem:
        """The file system that the path belongs to."""
        return get_filesystem(self.path)

    def _calc_hash(self) -> str:
        return self.filesystem.get_hash(self.path)

    async def aupdate_hash(self) -> None:
        """Compute the hash anew, in a thread."""
        await asyncio.to_thread(self.update_hash)

    def exists(self) -> bool:
        """Tell whether there is a file or directory at the path.

        Returns
        -------
        bool
            True for either.
        """
        return self.filesystem.exists(self.path)

    async def aexists(self) -> bool:
        """Tell, in a thread, whether there is a file or directory at the path.

        Returns
        -------
        bool
            True for either.
        """
        return await asyncio.to_thread(self.exists)

    def isfile(self) -> bool:
        """Tell whether the path is a file's.

        Returns
        -------
        bool
            False for a directory, and for nothing.
        """
        return self.filesystem.isfile(self.path)

    def isdir(self) -> bool:
        """Tell whether the path is a directory's.

        Returns
        -------
        bool
            False for a file, and for nothing.
        """
        return self.filesystem.isdir(self.path)

    def size(self) -> int:
        """Return how large the file is.

        Returns
        -------
        int
            Bytes.
        """
        return self.filesystem.filesize(self.path)

    def basename(self) -> str:
        """Return the last part of the path.

        Returns
        -------
        str
            `c.txt` of `s3://a/b/c.txt`.
        """
        return os.path.basename(self.path)

    def dirname(self) -> str:
        """Return the path of the file's directory.

        Returns
        -------
        str
            `s3://a/b` of `s3://a/b/c.txt`.
        """
        return os.path.dirname(self.path)

    def remove(self) -> None:
        """Remove the file if it is there."""
        self.filesystem.remove(self.path)

    def touch(self, time: tuple[float, float] | None = None) -> None:
        """Make an empty file if there is none; else set a local file's times.

        Parameters
        ----------
        time : tuple of (float, float), optional
            The times of access and modification, in seconds since 1970; by default now.

        Raises
        ------
        ValueError
            If times are given for a remote file.
        """
        self.filesystem.touch(self.path, time)

    def open(self, mode: str = "r", encoding: str | None = None, **kwargs: Any) -> IO[Any]:
        """Open the file; closing it updates the hash.

        Parameters
        ----------
        mode : str
            As for the builtin `open`; the directory of a file that is written is made if need be.
        encoding : str, optional
            Of a text file.
        **kwargs : Any
            Passed on to the file system's own `open`.

        Returns
        -------
        IO
            The stream, of text or of bytes as `mode` says.

        Raises
        ------
        OSError
            If the file cannot be opened.
        """
        stream = self.filesystem.open(self.path, mode, encoding=encoding, **kwargs)
        close_stream = stream.close

        def close() -> None:
            # A stream may be closed twice; its file is looked at once.
            stream.close = close_stream  # type: ignore[method-assign]  # the stream is ours alone
            close_stream()
            self.update_hash()

        stream.close = close  # type: ignore[method-assign]  # the stream is ours alone
        return stream

    def read(self, mode: str = "r", encoding: str | None = None) -> Any:
        """Read the whole file.

        Parameters
        ----------
        mode : str
            `"r"` for text, `"rb"` for bytes.
        encoding : str, optional
            Of text; by default the platform's.

        Returns
        -------
        str or bytes
            The contents.
        """
        with self.open(mode=mode, encoding=encoding) as stream:
            return stream.read()

    async def aread(self, mode: str = "r", encoding: str | None = None) -> Any:
        """Read the whole file in a thread.

        Parameters
        ----------
        mode : str
            As for `read`.
        encoding : str, optional
            As for `read`.

        Returns
        -------
        str or bytes
            The contents.
        """
        return await asyncio.to_thread(self.read, mode, encoding)

    def readlines(self, mode: str = "r") -> list[Any]:
        """Read the whole file as lines.

        Parameters
        ----------
        mode : str
            `"r"` for text, `"rb"` for bytes.

        Returns
        -------
        list of str or bytes
            Lines in order, with their line ends.
        """
        with self.open(mode=mode) as stream:
            return stream.readlines()

    def write(self, data: str | bytes, mode: str = "w", encoding: str | None = None) -> None:
        """Write the whole file.

        Parameters
        ----------
        data : str or bytes
            The contents.
        mode : str
            `"w"` for text, `"wb"` for bytes; with `a` in place of `w` they are added at the end.
        encoding : str, optional
            Of text; by default the platform's.
        """
        with self.open(mode=mode, encoding=encoding) as stream:
            stream.write(data)

    async def awrite(self, data: str | bytes, mode: str = "w", encoding: str | None = None) -> None:
        """Write the whole file in a thread.

        Parameters
        ----------
        data : str or bytes
            The contents.
        mode : str
            As for `write`.
        encoding : str, optional
            As for `write`.
        """
        await asyncio.to_thread(self.write, data, mode, encoding)

    def copy_to(self, dest_file: File, skip_if_exists: bool = False) -> File:
        """
        Copy the file, between file systems too.

        Parameters
        ----------
        dest_file : File
            The copy; its hash is updated.
        skip_if_exists : bool
            Leave a copy that exists as it is.

        Returns
        -------
        File
            `dest_file`.
        """
        if skip_if_exists and dest_file.exists():
            return dest_file
        # A remote file system knows better than a stream how to upload.
        local = self.filesystem.name == "local"
        filesystem = dest_file.filesystem if local else self.filesystem
        filesystem.copy(self.path, dest_file.path)
        dest_file.update_hash()
        return dest_file

    async def acopy_to(self, dest_file: File, skip_if_exists: bool = False) -> File:
        """Copy the file in a thread.

        Parameters
        ----------
        dest_file : File
            As for `copy_to`.
        skip_if_exists : bool
            As for `copy_to`.

        Returns
        -------
        File
            `dest_file`.
        """
        return await asyncio.to_thread(self.copy_to, dest_file, skip_if_exists)

    def stage(self, local: str | None = None) -> StagingFile:
        """Pair the file with a local copy, without copying yet.

        Parameters
        ----------
        local : str, optional
            Path of the copy, or of its directory if it ends in `/`; by default the file's own basename.

        Returns
        -------
        StagingFile
            The pair; its `stage` copies.
        """
        if not local:
            local = self.basename()
        elif local.endswith("/"):
            local = os.path.join(local, self.basename())
        return self.classes.StagingFile(local, self)


@file_class
class FileSet(LazilyHashed, FamilyMember, Value):
    """
    The files that match a pattern (mirrors redun's `FileSet`).

    Parameters
    ----------
    pattern : str
        A local pattern or a URL, where `*`, `?`, `[]` and `**` match as in `glob`. What matches nothing is
        read again with its leading folders taken literally, as far as they exist; `glob.escape` makes sure.
    """

    type_name = "redun.FileSet"
    _stored: ClassVar[dict[str, str]] = {"pattern": "pattern", "hash": "hash"}
    # Those that the hash is of.
    _files: list[File] | None = None

    def __init__(self, pattern: str) -> None:
        self.pattern: str = pattern

    def __repr__(self) -> str:
        return f"FileSet(pattern={self.pattern}, hash={self.hash})"

    def __iter__(self) -> Iterator[File]:
        filesystem = self.filesystem
        for path in filesystem.glob(self.pattern):
            if filesystem.isfile(path):
                yield self.classes.File(path)

    @property
    def filesystem(self) -> FileSystem:
        """The file system that the pattern belongs to."""
        return get_filesystem(self.pattern)

    def _calc_hash(self) -> str:
        files = list(self)
        if not self._hash:
            self._files = files
        return hash_struct([self.type_basename, self.pattern, *sorted(file.hash for file in files)])

    def update_hash(self) -> None:
        """Compute the hash anew from the files as they are."""
        self._hash = None
        super().update_hash()

    def files(self) -> list[File]:
        """List the files that match now.

        Returns
        -------
        list of File
            In the order of the file system's listing.
        """
        return list(self)

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the files."""
        return iter(self if self._files is None else self._files)


@file_class
class Dir(FileSet):
    """
    A directory with all files below it, hidden ones left out (mirrors redun's `Dir`).

    Parameters
    ----------
    path : str
        A local path or a URL.
    """

    type_name = "redun.Dir"
    _stored: ClassVar[dict[str, str]] = {"path": "path", "hash": "hash"}

    def __init__(self, path: str) -> None:
        self.path: str = os.fspath(path).rstrip("/")
        super().__init__(os.path.join(self.path, "**"))

    def __iter__(self) -> Iterator[File]:
        # The path is taken literally: it may have characters that mean something in a pattern.
        return (self.classes.File(path) for path in self.filesystem.find(self.path))

    def __repr__(self) -> str:
        return f"{self.type_basename}(path={self.path}, hash={self.hash[:8]})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.pattern = os.path.join(self.path, "**")

    def _calc_hash(self) -> str:
        file_hashes = self.filesystem.iter_file_hashes(self.path)
        return hash_struct([self.type_basename, self.path, *sorted(file_hashes)])

    def exists(self) -> bool:
        """Tell whether the directory exists.

        Returns
        -------
        bool
            True for a file of that path too.
        """
        return self.filesystem.exists(self.path)

    def mkdir(self) -> None:
        """Make the directory and those above it."""
        self.filesystem.mkdir(self.path)
        self.update_hash()

    def rmdir(self, recursive: bool = False) -> None:
        """Remove the directory.

        Parameters
        ----------
        recursive : bool
            Remove all that is in it too; else it has to be empty.
        """
        self.filesystem.rmdir(self.path, recursive)
        self.update_hash()

    def file(self, rel_path: str) -> File:
        """Return a file below the directory.

        Parameters
        ----------
        rel_path : str
            Path from the directory.

        Returns
        -------
        File
            The file, which need not exist.
        """
        return self.classes.File(os.path.join(self.path, rel_path))

    def rel_path(self, path: str) -> str:
        """Return a path as seen from the directory.

        Parameters
        ----------
        path : str
            Path of something below the directory.

        Returns
        -------
        str
            The path from the directory.
        """
        return os.path.relpath(path, self.path)

    def copy_to(self, dest_dir: Dir, skip_if_exists: bool = False) -> Dir:
        """Copy all files below the directory, between file systems too.

        Parameters
        ----------
        dest_dir : Dir
            Where the copies go, by the same relative paths.
        skip_if_exists : bool
            Leave copies that exist as they are.

        Returns
        -------
        Dir
            `dest_dir`.
        """
        for file in self:
            file.copy_to(dest_dir.file(self.rel_path(file.path)), skip_if_exists=skip_if_exists)
        return dest_dir

    def stage(self, local: str | None = None) -> StagingDir:
        """Pair the directory with a local copy, without copying yet.

        Parameters
        ----------
        local : str, optional
            Path of the copy; by default the directory's own basename.

        Returns
        -------
        StagingDir
            The pair; its `stage` copies.
        """
        return self.classes.StagingDir(local or os.path.basename(self.path), self)


@file_class
class Staging(StoredAttributes, FamilyMember, Value):
    """Root of the pairs of a remote file or directory and its local copy (mirrors redun's `Staging`)."""

    type_name = "redun.file.Staging"
    _stored: ClassVar[dict[str, str]] = {"local": "local", "remote": "remote"}
    local: Any
    remote: Any

    def __repr__(self) -> str:
        return f"{self.type_basename}(local={self.local}, remote={self.remote})"

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the two paths."""
        return hash_struct([self.type_name, self.local.path, self.remote.path])

    def stage(self) -> Any:
        """Copy the remote side to the local one, and return the local one."""
        return self.local if self.local.path == self.remote.path else self.remote.copy_to(self.local)

    def unstage(self) -> Any:
        """Copy the local side to the remote one, and return the remote one."""
        return self.remote if self.local.path == self.remote.path else self.local.copy_to(self.remote)

    def render_stage(self) -> str:
        """Return the shell command that copies the remote side to the local one, if they differ."""
        return self._render_copy(self.remote.path, self.local.path)

    def render_unstage(self) -> str:
        """Return the shell command that copies the local side to the remote one."""
        return self._render_copy(self.local.path, self.remote.path)

    def _render_copy(self, source: str, target: str) -> str:
        is_folder = isinstance(self.remote, Dir)
        return "" if source == target else render_copy(source, target, recursive=is_folder)

    @classmethod
    def parse_arg(cls, raw_type: type, arg: str) -> Any:
        """Refuse: a pair cannot be given on a command line."""
        raise ValueError(f"cannot read a {cls.type_basename} from {arg!r}: give a File or a Dir instead")


@file_class
class StagingFile(Staging):
    """A remote file and its local copy (mirrors redun's `StagingFile`)."""

    type_name = "redun.StagingFile"

    def __init__(self, local: File | str, remote: File | str) -> None:
        self.local = self.classes.File(local) if isinstance(local, str) else local
        self.remote = self.classes.File(remote) if isinstance(remote, str) else remote


@file_class
class StagingDir(Staging):
    """A remote directory and its local copy (mirrors redun's `StagingDir`)."""

    type_name = "redun.StagingDir"

    def __init__(self, local: Dir | str, remote: Dir | str) -> None:
        self.local = self.classes.Dir(local) if isinstance(local, str) else local
        self.remote = self.classes.Dir(remote) if isinstance(remote, str) else remote


FileClasses(File, FileSet, Dir, StagingFile, StagingDir)
