"""Files hash, compare and behave as redun's do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import redun.file
import redun.utils

from aredun.values import (
    Dir,
    File,
    FileSet,
    StagingFile,
    file_kinds,
    get_type_registry,
    pickle_dumps,
    pickle_loads,
)
from tests.support.object_store import create_bucket, run_object_store
from tests.support.values import redun_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

registry = get_type_registry()
FILE_KINDS = ["File", "IFile", "ContentFile"]
SET_KINDS = ["FileSet", "IFileSet", "ContentFileSet"]
DIR_KINDS = ["Dir", "IDir", "ContentDir"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with files, one of them hidden and one further below."""
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.txt", ".hidden", "sub/c.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def assert_same(ours: Any, theirs: Any) -> None:
    """Check that two files are stored alike."""
    assert ours.hash == theirs.hash
    assert registry.get_hash(ours) == redun_registry.get_hash(theirs)
    assert repr(ours) == repr(theirs)
    assert pickle_dumps([ours]) == redun.utils.pickle_dumps([theirs])
    subvalues = [value.get_hash() for value in registry.iter_subvalues(ours)]
    assert sorted(subvalues) == sorted(value.get_hash() for value in redun_registry.iter_subvalues(theirs))


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_files(folder: Path, kind: str) -> None:
    path = str(folder / "a.txt")
    assert_same(getattr(file_kinds, kind)(path), getattr(redun.file, kind)(path))


@pytest.mark.parametrize("kind", SET_KINDS)
@pytest.mark.parametrize("pattern", ["*.txt", "**", "**/*.txt", "nothing*"])
def test_file_sets(folder: Path, kind: str, pattern: str) -> None:
    path = str(folder / pattern)
    ours, theirs = getattr(file_kinds, kind)(path), getattr(redun.file, kind)(path)
    assert_same(ours, theirs)
    assert [file.path for file in ours.files()] == [file.path for file in theirs.files()]
    assert {type(file).__name__ for file in ours} == {type(file).__name__ for file in theirs}


@pytest.mark.parametrize("kind", DIR_KINDS)
@pytest.mark.parametrize("name", ["", "sub/", "missing"])
def test_directories(folder: Path, kind: str, name: str) -> None:
    path = str(folder / name)
    ours, theirs = getattr(file_kinds, kind)(path), getattr(redun.file, kind)(path)
    assert_same(ours, theirs)
    assert ours.pattern == theirs.pattern


@pytest.mark.parametrize("path", ["missing", "/no/such/file", "~", "/"])
def test_missing_and_odd_files(path: str) -> None:
    assert_same(File(path), redun.file.File(path))
    assert File(path).is_valid()


@pytest.mark.parametrize("kind", ["Staging", "IStaging", "ContentStaging"])
def test_stagings(folder: Path, kind: str) -> None:
    local, remote = str(folder / "b.txt"), str(folder / "a.txt")
    ours = getattr(file_kinds, f"{kind}File")(local, remote)
    theirs = getattr(redun.file, f"{kind}File")(local, remote)
    assert pickle_dumps(ours) == redun.utils.pickle_dumps(theirs)
    assert ours.get_hash() == theirs.get_hash()
    assert repr(ours) == repr(theirs)
    ours_dir = getattr(file_kinds, f"{kind}Dir")(str(folder / "x"), str(folder))
    theirs_dir = getattr(redun.file, f"{kind}Dir")(str(folder / "x"), str(folder))
    assert pickle_dumps(ours_dir) == redun.utils.pickle_dumps(theirs_dir)
    assert ours_dir.get_hash() == theirs_dir.get_hash()


def test_staging_copies(folder: Path) -> None:
    staging = File(str(folder / "a.txt")).stage(str(folder / "work") + "/")
    assert staging.local.path == str(folder / "work" / "a.txt")
    assert staging.stage().read() == "a.txt"
    staging.local.write("changed")
    assert staging.unstage().read() == "changed"
    same = StagingFile(str(folder / "a.txt"), str(folder / "a.txt"))
    assert same.stage() is same.local
    assert same.unstage() is same.remote
    assert Dir(str(folder)).stage().local.path == folder.name
    with pytest.raises(ValueError, match="StagingFile"):
        registry.parse_arg(StagingFile, "a")


def test_validity(folder: Path) -> None:
    path = folder / "a.txt"
    values = [
        File(str(path)),
        FileSet(str(folder / "*.txt")),
        Dir(str(folder)),
        file_kinds.ContentFile(str(path)),
    ]
    loaded = pickle_loads(pickle_dumps(values))
    assert registry.is_valid_nested(loaded)
    path.write_text("longer than before")
    os.utime(path, (1, 1))
    assert [value.is_valid() for value in loaded] == [False] * 4
    path.unlink()
    assert [value.is_valid() for value in loaded] == [False] * 4
    immutable = [file_kinds.IFile(str(path)), file_kinds.IDir(str(folder)), file_kinds.IFileSet(str(path))]
    assert all(value.is_valid() for value in pickle_loads(pickle_dumps(immutable)))


def test_reading_and_writing(tmp_path: Path) -> None:
    file = File(str(tmp_path / "new" / "file.txt"))
    assert not file.exists()
    missing = file.hash
    file.write("one\ntwo\n")
    assert file.hash == redun.file.File(file.path).hash != missing
    assert file.read() == "one\ntwo\n"
    assert file.read("rb") == b"one\ntwo\n"
    assert file.readlines() == ["one\n", "two\n"]
    assert file.size() == 8
    assert (file.basename(), file.dirname()) == ("file.txt", str(tmp_path / "new"))
    assert file.isfile()
    assert not file.isdir()
    file.write("é", encoding="latin1")
    assert file.read("rb") == b"\xe9"
    assert file.read(encoding="latin1") == "é"
    file.touch((5, 6))
    file.update_hash()
    assert file.hash == redun.file.File(file.path).hash
    file.remove()
    file.remove()
    assert not file.exists()
    file.touch()
    assert file.exists()


def test_errors_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        File(str(tmp_path / "missing.txt")).read()
    with pytest.raises(FileNotFoundError, match=r"memory://missing|missing"):
        File("memory://nowhere/missing.txt").read()
    with pytest.raises(ValueError, match="encoding"):
        File(str(tmp_path / "x")).open("rb", encoding="utf8")
    with pytest.raises(ValueError, match="unknown protocol 'nope'"):
        File("nope://x").exists()
    with pytest.raises(ValueError, match="empty"):
        File("")


def test_copying(folder: Path) -> None:
    copy = File(str(folder / "a.txt")).copy_to(File(str(folder / "copies" / "a.txt")))
    assert copy.read() == "a.txt"
    copy.write("kept")
    assert File(str(folder / "a.txt")).copy_to(copy, skip_if_exists=True).read() == "kept"
    target = Dir(str(folder / "sub")).copy_to(Dir(str(folder / "other")))
    assert target.file("c.txt").read() == "sub/c.txt"
    assert target.rel_path(str(folder / "other" / "c.txt")) == "c.txt"


def test_making_and_removing_directories(tmp_path: Path) -> None:
    made = Dir(str(tmp_path / "x" / "y"))
    made.mkdir()
    assert made.exists()
    made.file("f").write("1")
    made.rmdir(recursive=True)
    assert not made.exists()
    made.rmdir()


def test_other_file_systems_go_through_fsspec() -> None:
    file = File("memory://bucket/a.txt")
    file.write("abc")
    assert file.read() == "abc"
    assert file.size() == 3
    assert FileSet("memory://bucket/*.txt").files()[0].isfile()
    assert file.copy_to(File("memory://bucket/b.txt")).read() == "abc"
    assert len(FileSet("memory://bucket/*.txt").files()) == 2
    file.remove()
    file.remove()
    assert not file.exists()


def test_copying_between_file_systems(folder: Path) -> None:
    remote = File(str(folder / "a.txt")).copy_to(File("memory://there/a.txt"))
    assert remote.copy_to(File(str(folder / "back.txt"))).read() == "a.txt"


async def test_coroutines_do_the_same(tmp_path: Path) -> None:
    file = File(str(tmp_path / "file.txt"))
    assert not await file.aexists()
    await file.awrite("text")
    assert await file.aread() == "text"
    copy = await file.acopy_to(File(str(tmp_path / "copy.txt")))
    await copy.aupdate_hash()
    assert copy.is_valid()


def test_closing_a_stream_twice_is_harmless(tmp_path: Path) -> None:
    file = File(str(tmp_path / "file.txt"))
    stream = file.open("w")
    stream.write("text")
    stream.close()
    stream.close()
    assert file.hash == redun.file.File(file.path).hash


def test_path_objects_are_taken(tmp_path: Path) -> None:
    assert File(tmp_path / "x").path == str(tmp_path / "x")  # type: ignore[arg-type]  # a courtesy


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with three files."""
    with run_object_store(monkeypatch):
        url = create_bucket()
        for name in ("a.txt", "b.txt", "sub/c.txt", "sub2/d.txt"):
            File(f"{url}/{name}").write(name)
        yield url


def test_files_on_s3(bucket: str, tmp_path: Path) -> None:
    for name in ("a.txt", "sub/c.txt", "missing.txt", "sub"):
        assert_same(File(f"{bucket}/{name}"), redun.file.File(f"{bucket}/{name}"))
        assert File(f"{bucket}/{name}").exists() == redun.file.File(f"{bucket}/{name}").exists()
    for pattern in ("*.txt", "sub/*"):
        assert_same(FileSet(f"{bucket}/{pattern}"), redun.file.FileSet(f"{bucket}/{pattern}"))
    for name in ("sub", "missing"):
        assert_same(Dir(f"{bucket}/{name}"), redun.file.Dir(f"{bucket}/{name}"))
    dataset = file_kinds.ShardedS3Dataset(bucket, format="csv")
    theirs = redun.file.ShardedS3Dataset(bucket, format="csv")
    assert_same(dataset, theirs)
    copied = File(f"{bucket}/a.txt").copy_to(File(str(tmp_path / "down" / "a.txt")))
    assert copied.read() == "a.txt"
    assert copied.copy_to(File(f"{bucket}/up.txt")).copy_to(File(f"{bucket}/over.txt")).read() == "a.txt"
    over = File(f"{bucket}/over.txt")
    assert over.is_valid()
    redun.file.File(over.path).write("changed behind its back")
    assert not over.is_valid()
    over.remove()
    assert not over.exists()
    assert over.hash != File(over.path).hash
