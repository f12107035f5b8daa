"""Where files live: local disk, S3, Azure and whatever fsspec reaches, with redun's quick hash of each.

Everything here blocks; from an event loop, call it in a thread.
"""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import suppress
from shlex import quote
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlparse

from aredun.formats.hashing import hash_struct

if TYPE_CHECKING:
    from collections.abc import Iterator


def get_proto(url: str) -> str:
    """
    Return the protocol of a URL, `"local"` for a plain path (mirrors redun's `get_proto`).

    Only what stands before `://` is a protocol: `chr1:100-200.bed` is the name of a file.
    """
    proto, separator, _ = url.partition("://")
    return proto.lower() if proto and separator and "/" not in proto else "local"


def has_magic(path: str) -> bool:
    """Tell whether a path has characters that mean something in a pattern."""
    return glob.escape(path) != path


def make_fs(protocol: str, **settings: Any) -> Any:
    """Return the fsspec file system of a protocol."""
    # Whoever has local files only does not wait for this import, which takes 20 ms.
    import fsspec

    return fsspec.filesystem(protocol, **settings)


class FileSystem:
    """
    A place that files live in, reached through fsspec (mirrors redun's `FsspecFileSystem`).

    Parameters
    ----------
    name : str
        The protocol, as in a URL.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def get_fs(self, path: str) -> Any:
        """Return the fsspec file system for a path; fsspec keeps one a thread."""
        return make_fs(self.name)

    def open(self, path: str, mode: str = "r", encoding: str | None = None, **kwargs: Any) -> IO[Any]:
        """
        Open a file; the directory of one that is written is made if need be.

        Raises
        ------
        ValueError
            If a binary mode is given an encoding.
        OSError
            If the file cannot be opened; the error names its path.
        """
        if encoding is not None:
            if "b" in mode:
                raise ValueError(
                    f"cannot open {path} in mode {mode!r} with an encoding: use one or the other"
                )
            kwargs["encoding"] = encoding
        if "w" in mode or "a" in mode:
            self.make_parent(path)
        try:
            return self._open(path, mode, **kwargs)
        except OSError as error:
            if error.filename is None and error.errno is not None:
                error.filename = path
            raise

    def _open(self, path: str, mode: str, **kwargs: Any) -> IO[Any]:
        stream: IO[Any] = self.get_fs(path).open(path, mode, **kwargs)
        return stream

    def make_parent(self, path: str) -> None:
        """Make the directory that a file is about to be written to."""
        self.get_fs(path).makedirs(os.path.dirname(path), exist_ok=True)

    def exists(self, path: str) -> bool:
        """Tell whether a file or directory exists."""
        return bool(self.get_fs(path).exists(path))

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        with suppress(FileNotFoundError):
            self.get_fs(path).rm_file(path)

    def touch(self, path: str, time: tuple[float, float] | None = None) -> None:
        """Make an empty file if there is none; `time` can be set on local files only."""
        if time is not None:
            raise ValueError(f"cannot set the time of {path}: only local files have one to set")
        self.open(path, "a").close()

    def mkdir(self, path: str) -> None:
        """Make a directory and those above it."""
        self.get_fs(path).makedirs(path, exist_ok=True)

    def rmdir(self, path: str, recursive: bool = False) -> None:
        """Remove a directory, with all that is in it if `recursive`."""
        fs = self.get_fs(path)
        with suppress(FileNotFoundError):
            if not has_magic(path):
                fs.rm(path, recursive=recursive)
                return
            # fsspec's `rm` would read the path as a pattern, and remove what matches it.
            for name in sorted(fs.find(path, withdirs=True), reverse=True) if recursive else ():
                remove_entry(fs, name)
            remove_entry(fs, path)

    def get_hash(self, path: str) -> str:
        """Hash a file by its path and size; a missing file has the size -1."""
        size = self.get_fs(path).stat(path)["size"] if self.exists(path) else -1
        return hash_struct(["File", "fsspec", path, str(size)])

    def iter_file_hashes(self, path: str) -> Iterator[str]:
        """Yield the hashes of the files below a directory."""
        for file_path in self.find(path):
            yield self.get_hash(file_path)

    def copy(self, src_path: str, dest_path: str) -> None:
        """Copy a file from or to this file system."""
        if get_proto(src_path) == get_proto(dest_path):
            self._copy_within(src_path, dest_path)
            return
        with (
            get_filesystem(src_path).open(src_path, "rb") as source,
            get_filesystem(dest_path).open(dest_path, "wb") as target,
        ):
            shutil.copyfileobj(source, target)

    def _copy_within(self, src_path: str, dest_path: str) -> None:
        self.get_fs(src_path).cp_file(src_path, dest_path)

    def glob(self, pattern: str) -> list[str]:
        """
        List the paths that match a pattern, as URLs that `File` takes.

        A pattern that nothing matches is read again with its leading folders taken literally, as far as they
        exist: a folder may well be called `run[2024]`.
        """
        paths = self._glob(pattern)
        if paths:
            return paths
        folder = os.path.dirname(pattern)
        while has_magic(folder) and not self.isdir(folder):
            folder = os.path.dirname(folder)
        return self._glob(glob.escape(folder) + pattern[len(folder) :]) if has_magic(folder) else []

    def _glob(self, pattern: str) -> list[str]:
        return [self._url(pattern, name) for name in self.get_fs(pattern).glob(pattern)]

    def find(self, path: str) -> list[str]:
        """List the files below a directory, whose path is taken literally, as URLs that `File` takes."""
        fs = self.get_fs(path)
        itself = fs.unstrip_protocol(path)
        return [self._url(path, name) for name in fs.find(path) if fs.unstrip_protocol(name) != itself]

    def _url(self, path: str, name: str) -> str:
        """Return the URL of what fsspec names, on the file system of a path."""
        prefix = f"{self.name}://"
        return name if name.startswith(prefix) else prefix + name

    def isfile(self, path: str) -> bool:
        """Tell whether a path is a file."""
        return bool(self.get_fs(path).isfile(path))

    def isdir(self, path: str) -> bool:
        """Tell whether a path is a directory."""
        return bool(self.get_fs(path).isdir(path))

    def filesize(self, path: str) -> int:
        """Return a file's size in bytes."""
        return int(self.get_fs(path).stat(path)["size"])


class LocalFileSystem(FileSystem):
    """The local disk (mirrors redun's `LocalFileSystem`)."""

    def _open(self, path: str, mode: str, **kwargs: Any) -> IO[Any]:
        stream: IO[Any] = open(path, mode, **kwargs)
        return stream

    def make_parent(self, path: str) -> None:
        dirname = os.path.dirname(path)
        if dirname:
            os.makedirs(dirname, exist_ok=True)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.remove(path)

    def touch(self, path: str, time: tuple[float, float] | None = None) -> None:
        if not self.exists(path):
            self.open(path, "w").close()
        else:
            os.utime(path, time)

    def mkdir(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rmdir(self, path: str, recursive: bool = False) -> None:
        if not self.isdir(path):
            return
        if recursive:
            shutil.rmtree(path)
        else:
            os.rmdir(path)

    def get_hash(self, path: str) -> str:
        """Hash a file by its path, size and modification time; a missing file has -1 for both."""
        size: int = -1
        mtime: float = -1
        # `suppress` would take longer than the hash.
        try:
            stat = os.stat(path)
            size, mtime = stat.st_size, stat.st_mtime
        except (OSError, ValueError):
            pass
        return hash_struct(["File", "local", path, size, str(mtime)])

    def _copy_within(self, src_path: str, dest_path: str) -> None:
        self.make_parent(dest_path)
        shutil.copyfile(src_path, dest_path)

    def _glob(self, pattern: str) -> list[str]:
        return glob.glob(pattern, recursive=True)

    def find(self, path: str) -> list[str]:
        names = glob.glob("**", root_dir=path, recursive=True)
        return [found for name in names if os.path.isfile(found := os.path.join(path, name))]

    def isfile(self, path: str) -> bool:
        return os.path.isfile(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def filesize(self, path: str) -> int:
        return os.stat(path).st_size


class FlatFileSystem(FileSystem):
    """Web servers and object stores, which have nothing to make a directory in."""

    def make_parent(self, path: str) -> None:
        return


class S3FileSystem(FlatFileSystem):
    """AWS S3 (mirrors redun's `S3FileSystem`): files are hashed by their ETag. Needs `aredun[aws]`."""

    def get_fs(self, path: str) -> Any:
        # A listing that fsspec remembers would hide what another process has written since.
        return make_fs("s3", anon=False, use_listings_cache=False)

    @staticmethod
    def split_path(path: str) -> tuple[str, str]:
        """Split `s3://bucket/key` into bucket and key."""
        bucket, _, key = path.removeprefix("s3://").partition("/")
        return bucket, key

    def get_hash(self, path: str) -> str:
        """Hash a file by its path and ETag, which is empty for a missing file."""
        bucket, key = self.split_path(path)
        fs = self.get_fs(path)
        try:
            etag = fs.call_s3("head_object", Bucket=bucket, Key=key, **fs.req_kw)["ETag"]
        except FileNotFoundError:
            etag = ""
        return hash_struct(["File", "s3", path, etag])

    def iter_file_hashes(self, path: str) -> Iterator[str]:
        """Yield the hashes of all files whose key starts as the path does, page by page, as redun does."""
        bucket, prefix = self.split_path(path)
        fs = self.get_fs(path)
        token: dict[str, str] = {}
        while True:
            page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **token)
            for item in page.get("Contents", []):
                yield hash_struct(["File", "s3", f"s3://{bucket}/{item['Key']}", item["ETag"]])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def mkdir(self, path: str) -> None:
        if not self.exists(path):
            self.get_fs(path).touch(path)

    def copy(self, src_path: str, dest_path: str) -> None:
        protos = (get_proto(src_path), get_proto(dest_path))
        if protos == ("s3", "local"):
            get_filesystem(dest_path).make_parent(dest_path)
            self.get_fs(src_path).get_file(src_path, dest_path)
        elif protos == ("local", "s3"):
            self.get_fs(src_path).put_file(src_path, dest_path)
        else:
            super().copy(src_path, dest_path)


class AzureBlobFileSystem(FileSystem):
    """Azure, `az://container@account.blob.core.windows.net/path`: hashed by ETag; needs adlfs."""

    @staticmethod
    def get_account(path: str) -> str:
        """Return the storage account that a URL names."""
        host = urlparse(path).hostname or ""
        account, dot, rest = host.partition(".")
        if not dot or rest != "blob.core.windows.net":
            raise ValueError(
                f"invalid Azure URL {path!r}: use az://container@account.blob.core.windows.net/path"
            )
        return account

    def get_fs(self, path: str) -> Any:
        return make_fs("az", account_name=self.get_account(path), anon=False)

    def get_hash(self, path: str) -> str:
        etag = self.get_fs(path).stat(path)["etag"] if self.exists(path) else ""
        return hash_struct(["File", "az", path, etag])

    def _url(self, path: str, name: str) -> str:
        container, _, key = name.partition("/")
        return f"az://{container}@{self.get_account(path)}.blob.core.windows.net/{key}"


_filesystems: dict[str, FileSystem] = {
    "local": LocalFileSystem("local"),
    "s3": S3FileSystem("s3"),
    "az": AzureBlobFileSystem("az"),
    "http": FlatFileSystem("http"),
    "https": FlatFileSystem("https"),
}


# The commands that redun copies with, and how each is told to copy a directory.
_COPY_TOOLS = {
    "local": ("cp", "-r"),
    "s3": ("aws s3 cp --no-progress", "--recursive"),
    "gs": ("gsutil cp", "-r"),
}
_COPY_TOOL = ("redun fs cp", "--recursive")


def render_copy(src_path: str, dest_path: str, *, recursive: bool) -> str:
    """
    Return the shell command that copies a file or a directory, word for word redun's, since it is hashed.

    Parameters
    ----------
    src_path, dest_path : str
        Paths or URLs. S3 needs the command `aws`, `gs://` needs `gsutil`, and others need `redun`.
    recursive : bool
        Copy a directory.
    """
    source, target = quote(src_path), quote(dest_path)
    source_proto, target_proto = get_proto(src_path), get_proto(dest_path)
    remote = {source_proto, target_proto} - {"local"}
    proto = remote.pop() if len(remote) == 1 else "local" if not remote else ""
    tool, recursively = _COPY_TOOLS.get(proto, _COPY_TOOL)
    if source_proto == "s3" and not proto and not recursive:
        read, write = _COPY_TOOLS["s3"][0], _COPY_TOOLS.get(target_proto, _COPY_TOOL)[0]
        return f"({read} {source} -) | ({write} - {target})"
    return " ".join([tool, *([recursively] if recursive else ()), source, target])


def get_filesystem(url: str) -> FileSystem:
    """
    Return the file system that a URL or path belongs to (mirrors redun's `get_filesystem`).

    Raises
    ------
    ValueError
        If the URL's protocol is neither aredun's nor fsspec's.
    """
    proto = get_proto(url)
    filesystem = _filesystems.get(proto)
    if filesystem is None:
        import fsspec

        if proto not in fsspec.available_protocols():
            raise ValueError(f"unknown protocol {proto!r} in {url!r}: use a path, s3://, gs://, https:// ...")
        filesystem = _filesystems[proto] = FileSystem(proto)
    return filesystem


def remove_entry(fs: Any, path: str) -> None:
    """Remove a file or an empty directory of an fsspec file system, by its literal path."""
    if fs.isfile(path):
        fs.rm_file(path)
    elif fs.isdir(path):
        fs.rmdir(path)
