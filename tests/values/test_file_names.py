"""Characters that mean something in a pattern or a URL are only characters in a path."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

import pytest
import redun.file

from aredun import File, Scheduler, task
from aredun.values import Dir, FileSet, file_kinds, pickle_dumps, pickle_loads
from tests.support.object_store import create_bucket, run_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

redun_namespace = "file_names"
# Read as a pattern, the first two match a sibling whose files must stay.
NAMES = {"run[12]": "run1", "[ab]*?": "ab1", "]x[": "x"}


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty folder on each kind of file system."""
    if request.param == "local":
        yield str(tmp_path)
    elif request.param == "memory":
        yield f"memory://{tmp_path.name}"
    else:
        with run_object_store(monkeypatch):
            yield create_bucket()


def fill(root: str, *names: str) -> None:
    for name in names:
        File(f"{root}/{name}").write(name)


def rel_paths(folder: Dir, files: Iterator[File] | None = None) -> list[str]:
    return sorted(folder.rel_path(file.path) for file in (folder if files is None else files))


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_not_a_pattern(root: str, name: str) -> None:
    beside = Dir(f"{root}/{NAMES[name]}.d")
    fill(root, f"{name}/a.txt", f"{name}/sub[1]/b*.txt", f"{NAMES[name]}.d/kept", f"{name}.csv/x.csv")
    folder = Dir(f"{root}/{name}")
    assert rel_paths(folder) == ["a.txt", "sub[1]/b*.txt"]
    assert len(list(folder.iter_subvalues())) == 2
    assert FileSet(f"{glob.escape(folder.path)}/*.txt").files()[0].path.endswith(f"{name}/a.txt")
    assert file_kinds.ShardedS3Dataset(f"{root}/{name}.csv", "csv").filenames[0].endswith("x.csv")

    loaded = pickle_loads(pickle_dumps([folder, file_kinds.ContentDir(folder.path)]))
    assert all(value.is_valid() for value in loaded)
    folder.file("new.txt").write("new")
    assert [value.is_valid() for value in loaded] == [False, False]

    copy = folder.copy_to(Dir(f"{root}/copy"))
    assert rel_paths(copy) == ["a.txt", "new.txt", "sub[1]/b*.txt"]
    assert copy.copy_to(Dir(f"{root}/{name}/again")).file("a.txt").read() == f"{name}/a.txt"
    folder.rmdir(recursive=True)
    assert not folder.exists()
    assert rel_paths(folder) == []
    assert rel_paths(beside) == ["kept"]


def test_removing_and_copying_one_file_leaves_what_its_name_matches(root: str) -> None:
    fill(root, "a*", "ab", "b[12]", "b1")
    File(f"{root}/a*").remove()
    File(f"{root}/b[12]").copy_to(File(f"{root}/c[12]"))
    File(f"{root}/b[12]").remove()
    assert rel_paths(Dir(root)) == ["ab", "b1", "c[12]"]
    assert File(f"{root}/c[12]").read() == "b[12]"
    Dir(f"{root}/[none]").rmdir()
    Dir(f"{root}/[none]").rmdir(recursive=True)


def test_a_pattern_that_matches_nothing_is_read_with_its_folders_taken_literally(root: str) -> None:
    fill(root, "run[12]/x?1/a.txt", "run[12]/x?1/b.csv", "run[12]/c.txt")
    folder = Dir(root)
    for pattern, found in {
        "run[12]/*.txt": ["run[12]/c.txt"],
        "run[12]/**/*.txt": ["run[12]/c.txt", "run[12]/x?1/a.txt"],
        "run[12]/x?1/*": ["run[12]/x?1/a.txt", "run[12]/x?1/b.csv"],
        "run[12]/*/a.*": ["run[12]/x?1/a.txt"],
        "run[12]/none*": [],
        "[12]/*": [],
    }.items():
        assert rel_paths(folder, iter(FileSet(f"{root}/{pattern}"))) == found, pattern
    # What redun finds comes first, and counts alone.
    fill(root, "run1/other.txt")
    assert rel_paths(folder, iter(FileSet(f"{root}/run[12]/*.txt"))) == ["run1/other.txt"]


def test_ordinary_folders_hash_as_redun_hashes_them(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    for name in ("real/a", "real/.hidden", "real/sub/b[1]", "real/c d"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real" / "sub")
    for name in ("real", "link", "real/", "real/a", "real/sub", "none", "real//sub", "real/../link"):
        path = f"{tmp_path}/{name}"
        assert Dir(path).hash == redun.file.Dir(path).hash, name
        assert [file.path for file in Dir(path)] == [file.path for file in redun.file.Dir(path)], name
    for pattern in ("*/*", "r*/[a-c]*", "real/sub/b[1]", "**", "none/*"):
        path = f"{tmp_path}/{pattern}"
        assert FileSet(path).hash == redun.file.FileSet(path).hash, pattern


NAMES_WITH_COLONS = [
    "chr1:100-200.bed",
    "12:30/log",
    "s3:x",
    "file:x",
    "http:",
    ":x",
    "a b:c",
    "x/a://b",
    "[a:b]",
]


@pytest.mark.parametrize("name", NAMES_WITH_COLONS)
def test_a_colon_alone_makes_no_protocol(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    File(name).write("text")
    assert (tmp_path / name).read_text() == "text"
    assert File(name).is_valid()
    assert File(name).copy_to(File("copy:1")).read() == "text"
    file = pickle_loads(pickle_dumps(File(name)))
    file.write("other")
    assert rel_paths(Dir(".")) == sorted([os.path.normpath(name), "copy:1"])
    assert File(str(tmp_path / name)).read() == "other"


@pytest.mark.parametrize("url", ["nope://x", "S3x://b", "simplecache::s3://b/x"])
def test_protocols_are_still_told(url: str) -> None:
    with pytest.raises(ValueError, match="unknown protocol"):
        File(url).exists()
    assert not File("MEMORY://nowhere").exists()


@task()
def count(folder: Dir) -> int:
    return len(list(folder))


async def test_a_task_sees_what_changes_in_such_a_folder(scheduler: Scheduler, tmp_path: Path) -> None:
    folder = tmp_path / "run[2024]"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.txt").write_text("1")
        assert await scheduler.run(count(Dir(str(folder)))) == number
