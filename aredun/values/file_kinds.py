"""Files that are hashed otherwise: immutable ones, content-hashed ones and sharded data sets."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any, ClassVar

from aredun.formats.hashing import hash_stream, hash_struct
from aredun.values.base import Value
from aredun.values.file import (
    Dir,
    File,
    FileClasses,
    FileSet,
    LazilyHashed,
    StagingDir,
    StagingFile,
    file_class,
)
from aredun.values.filesystem import get_filesystem
from aredun.values.pickling import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@file_class
class IFile(File):
    """A file that never changes once written: hashed by its path (mirrors redun's `IFile`).

    Parameters
    ----------
    path : str
        A local path or a URL.
    """

    type_name = "redun.IFile"

    def _calc_hash(self) -> str:
        return hash_struct([self.type_basename, self.path])

    def is_valid(self) -> bool:
        """Hold for good."""
        return True


@file_class
class IFileSet(FileSet):
    """A set of files that never changes: hashed by its pattern (mirrors redun's `IFileSet`)."""

    type_name = "redun.IFileSet"

    def _calc_hash(self) -> str:
        return hash_struct([self.type_basename, self.pattern])

    def is_valid(self) -> bool:
        """Hold for good."""
        return True


@file_class
class IDir(Dir):
    """A directory that never changes: hashed by its path (mirrors redun's `IDir`)."""

    type_name = "redun.IDir"

    def _calc_hash(self) -> str:
        return hash_struct([self.type_basename, self.path])


@file_class
class IStagingFile(StagingFile):
    """A pair of immutable files (mirrors redun's `IStagingFile`)."""

    type_name = "redun.IStagingFile"


@file_class
class IStagingDir(StagingDir):
    """A pair of immutable directories (mirrors redun's `IStagingDir`)."""

    type_name = "redun.IStagingDir"


@file_class
class ContentFile(File):
    """A file that is hashed by its content, read in full (mirrors redun's `ContentFile`).

    Parameters
    ----------
    path : str
        A local path or a URL.
    """

    # Two type names have a slip of redun's in them; they are in its databases.
    type_name = "redun.ConentFile"

    def _calc_hash(self) -> str:
        with self.filesystem.open(self.path, mode="rb") as stream:
            content_hash = hash_stream(stream)
        return hash_struct([self.type_basename, self.path, content_hash])


@file_class
class ContentFileSet(FileSet):
    """A set of files that are hashed by their contents (mirrors redun's `ContentFileSet`)."""

    type_name = "redun.CnotentFileSet"


@file_class
class ContentDir(Dir):
    """A directory of content-hashed files, itself hashed as a `Dir` is (mirrors redun's `ContentDir`)."""

    type_name = "redun.ContentDir"


@file_class
class ContentStagingFile(StagingFile):
    """A pair of content-hashed files (mirrors redun's `ContentStagingFile`)."""

    type_name = "redun.ContentStagingFile"


@file_class
class ContentStagingDir(StagingDir):
    """A pair of content-hashed directories (mirrors redun's `ContentStagingDir`)."""

    type_name = "redun.ContentStagingDir"


FileClasses(IFile, IFileSet, IDir, IStagingFile, IStagingDir)
FileClasses(ContentFile, ContentFileSet, ContentDir, ContentStagingFile, ContentStagingDir)

_DATASET_FORMATS = ("avro", "csv", "ion", "grokLog", "json", "orc", "parquet", "xml")


@stands_for("redun.file", "ShardedS3Dataset")
class ShardedS3Dataset(LazilyHashed, Value):
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
    _stored: ClassVar[dict[str, str]] = {
        "path": "path",
        "format": "format",
        "recurse": "recurse",
        "hash": "_hash",
        "files": "filenames",
    }

    def __init__(self, path: str, format: str = "parquet", recurse: bool = True) -> None:
        if format not in _DATASET_FORMATS:
            raise ValueError(f"invalid format {format!r}: use one of {', '.join(_DATASET_FORMATS)}")
        self.path = path.rstrip("/")
        self.format = format
        self.recurse = recurse
        self.filenames: list[str] = self._list_files()

    def __repr__(self) -> str:
        shown = f"path={self.path}, format={self.format}, recurse={self.recurse}, hash={self.hash}"
        return f"ShardedS3Dataset({shown})"

    def _list_files(self) -> list[str]:
        filesystem = get_filesystem(self.path)
        folder = glob.escape(self.path)
        paths = set(filesystem.glob(f"{folder}/*.{self.format}"))
        if self.recurse:
            paths.update(filesystem.glob(f"{folder}/**/*.{self.format}"))
        return sorted(paths)

    def _calc_hash(self) -> str:
        self.filenames = self._list_files()
        return hash_struct(["ShardedS3Dataset", self.path, *sorted(self.filenames)])

    def postprocess(self, postprocess_args: dict[str, Any]) -> ShardedS3Dataset:
        """Look for the files that the task has written."""
        self.update_hash()
        return self

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the files."""
        for path in self.filenames:
            yield File(path)
