"""Files that are hashed otherwise: immutable ones, content-hashed ones and sharded data sets."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from aredun.formats.hashing import hash_stream, hash_struct
from aredun.values.base import Value
from aredun.values.file import Dir, File, FileClasses, FileSet, StagingDir, StagingFile
from aredun.values.filesystem import get_filesystem
from aredun.values.pickling import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@stands_for("redun.file", "IFile")
class IFile(File):
    """A file that never changes once written: hashed by its path (mirrors redun's `IFile`).

    Parameters
    ----------
    path : str
        A local path or a URL.
    """

    type_basename = "IFile"
    type_name = "redun.IFile"

    def _calc_hash(self) -> str:
        return hash_struct([self.type_basename, self.path])

    def is_valid(self) -> bool:
        """Hold for good."""
        return True


@stands_for("redun.file", "IFileSet")
class IFileSet(FileSet):
    """A set of files that never changes: hashed by its pattern (mirrors redun's `IFileSet`)."""

    type_basename = "IFileSet"
    type_name = "redun.IFileSet"

    def _calc_hash(self, files: list[File] | None = None) -> str:
        return hash_struct([self.type_basename, self.pattern])

    def is_valid(self) -> bool:
        """Hold for good."""
        return True


@stands_for("redun.file", "IDir")
class IDir(Dir):
    """A directory that never changes: hashed by its path (mirrors redun's `IDir`)."""

    type_basename = "IDir"
    type_name = "redun.IDir"

    def _calc_hash(self, files: list[File] | None = None) -> str:
        return hash_struct([self.type_basename, self.path])


@stands_for("redun.file", "IStagingFile")
class IStagingFile(StagingFile):
    """A pair of immutable files (mirrors redun's `IStagingFile`)."""

    type_basename = "IStagingFile"
    type_name = "redun.IStagingFile"


@stands_for("redun.file", "IStagingDir")
class IStagingDir(StagingDir):
    """A pair of immutable directories (mirrors redun's `IStagingDir`)."""

    type_basename = "IStagingDir"
    type_name = "redun.IStagingDir"


@stands_for("redun.file", "ContentFile")
class ContentFile(File):
    """A file that is hashed by its content, read in full (mirrors redun's `ContentFile`).

    Parameters
    ----------
    path : str
        A local path or a URL.
    """

    type_basename = "ContentFile"
    # Two type names have a slip of redun's in them; they are in its databases.
    type_name = "redun.ConentFile"

    def _calc_hash(self) -> str:
        with self.filesystem.open(self.path, mode="rb") as stream:
            content_hash = hash_stream(stream)
        return hash_struct([self.type_basename, self.path, content_hash])


@stands_for("redun.file", "ContentFileSet")
class ContentFileSet(FileSet):
    """A set of files that are hashed by their contents (mirrors redun's `ContentFileSet`)."""

    type_basename = "ContentFileSet"
    type_name = "redun.CnotentFileSet"


@stands_for("redun.file", "ContentDir")
class ContentDir(Dir):
    """A directory of content-hashed files, itself hashed as a `Dir` is (mirrors redun's `ContentDir`)."""

    type_basename = "ContentDir"
    type_name = "redun.ContentDir"


@stands_for("redun.file", "ContentStagingFile")
class ContentStagingFile(StagingFile):
    """A pair of content-hashed files (mirrors redun's `ContentStagingFile`)."""

    type_basename = "ContentStagingFile"
    type_name = "redun.ContentStagingFile"


@stands_for("redun.file", "ContentStagingDir")
class ContentStagingDir(StagingDir):
    """A pair of content-hashed directories (mirrors redun's `ContentStagingDir`)."""

    type_basename = "ContentStagingDir"
    type_name = "redun.ContentStagingDir"


_immutable = FileClasses(IFile, IFileSet, IDir, IStagingFile, IStagingDir)
IFile.classes = IFileSet.classes = IDir.classes = _immutable
IStagingFile.classes = IStagingDir.classes = _immutable
_content = FileClasses(ContentFile, ContentFileSet, ContentDir, ContentStagingFile, ContentStagingDir)
ContentFile.classes = ContentFileSet.classes = ContentDir.classes = _content
ContentStagingFile.classes = ContentStagingDir.classes = _content

_DATASET_FORMATS = ("avro", "csv", "ion", "grokLog", "json", "orc", "parquet", "xml")


@stands_for("redun.file", "ShardedS3Dataset")
class ShardedS3Dataset(Value):
    """
    A data set in many files of one S3 prefix, hashed by their names.

    Mirrors redun's `ShardedS3Dataset` without its methods for Spark and pandas.

    Parameters
    ----------
    path : str
        The prefix, `s3://bucket/key`.
    format : str
        The files' suffix: avro, csv, ion, grokLog, json, orc, parquet or xml.
    recurse : bool
        Whether files further below belong to it.
    """

    type_name = "redun.ShardedS3Dataset"

    def __init__(self, path: str, format: str = "parquet", recurse: bool = True) -> None:
        if format not in _DATASET_FORMATS:
            raise ValueError(f"invalid format {format!r}: use one of {', '.join(_DATASET_FORMATS)}")
        self.path = path.rstrip("/")
        self.format = format
        self.recurse = recurse
        self._hash: str | None = None
        self.filenames: list[str] = self._list_files()

    def __repr__(self) -> str:
        shown = f"path={self.path}, format={self.format}, recurse={self.recurse}, hash={self.hash}"
        return f"ShardedS3Dataset({shown})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "format": self.format,
            "recurse": self.recurse,
            "hash": self._hash,
            "files": self.filenames,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.format = state["format"]
        self.recurse = state["recurse"]
        self._hash = state["hash"]
        self.filenames = state["files"]

    def _list_files(self) -> list[str]:
        filesystem = get_filesystem(self.path)
        folder = glob.escape(self.path)
        paths = set(filesystem.glob(f"{folder}/*.{self.format}"))
        if self.recurse:
            paths.update(filesystem.glob(f"{folder}/**/*.{self.format}"))
        return sorted(paths)

    @property
    def hash(self) -> str:
        """The hash over the path and the files' names, as last computed."""
        if not self._hash:
            self._hash = self._calc_hash()
        return self._hash

    def _calc_hash(self) -> str:
        self.filenames = self._list_files()
        return hash_struct(["ShardedS3Dataset", self.path, *sorted(self.filenames)])

    def get_hash(self, data: bytes | None = None) -> str:
        """Return the data set's hash."""
        return self.hash

    def update_hash(self) -> None:
        """Compute the hash anew from the files as they are."""
        self._hash = self._calc_hash()

    def is_valid(self) -> bool:
        """Tell whether the data set has the same files as when its hash was computed."""
        if not self._hash:
            self.update_hash()
            return True
        return self.hash == self._calc_hash()

    def postprocess(self, postprocess_args: dict[str, Any]) -> ShardedS3Dataset:
        """Look for the files that the task has written."""
        self.update_hash()
        return self

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the files."""
        for path in self.filenames:
            yield File(path)
