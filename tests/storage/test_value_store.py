"""The value store: redun's layout on a folder and on S3, atomic writes, checked reads."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from redun.backends.value_store import ValueStore as RedunValueStore

from aredun.errors import AredunError, InvalidValueError, RedunDatabaseError
from aredun.formats.hashing import hash_tag_bytes
from aredun.storage.value_store import CorruptValueError, ValueStore, is_intact
from tests.support.object_store import create_bucket, run_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """An S3 server for this module."""
    with pytest.MonkeyPatch.context() as monkeypatch, run_object_store(monkeypatch) as endpoint:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield endpoint


@pytest.fixture(params=["folder", "s3", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location."""
    if request.param == "folder":
        return str(tmp_path / "values")
    if request.param == "s3":
        request.getfixturevalue("object_store")
        return create_bucket() + "/some/values"
    return f"memory:///{tmp_path}/values"


def make_value(value: Any) -> tuple[str, bytes]:
    """Return a plain value's hash and bytes."""
    data = pickle.dumps(value, protocol=3)
    return hash_tag_bytes("Value", data), data


async def test_put_and_get(root: str) -> None:
    store = ValueStore(root)
    value_hash, data = make_value("x" * 5000)
    assert not await store.has(value_hash)
    assert await store.size(value_hash) == -1
    assert await store.get(value_hash) == (b"", False)
    assert await store.put(value_hash, data)
    assert not await store.put(value_hash, data)
    assert await store.has(value_hash)
    assert await store.size(value_hash) == len(data)
    assert await store.get(value_hash, "builtins.str") == (data, True)
    assert store.get_value_path(value_hash) == f"{root}/{value_hash[:2]}/{value_hash[2:]}"


@pytest.mark.parametrize("use_subdir", [True, False])
async def test_iter_hashes(root: str, use_subdir: bool) -> None:
    store = ValueStore(root, use_subdir=use_subdir)
    assert [value_hash async for value_hash in store.iter_hashes()] == []
    values = [make_value(index) for index in range(30)]
    async with asyncio.TaskGroup() as group:
        for value in values:
            group.create_task(store.put(*value))
    assert [value_hash async for value_hash in store.iter_hashes()] == sorted(hash for hash, _ in values)


async def test_iter_hashes_passes_over_other_files(tmp_path: Path) -> None:
    store = ValueStore(str(tmp_path))
    value_hash, data = make_value(1)
    await store.put(value_hash, data)
    (tmp_path / value_hash[:2] / ".left-behind.tmp").write_bytes(b"half")
    (tmp_path / "README").write_text("hello")
    assert [found async for found in store.iter_hashes()] == [value_hash]


@pytest.mark.parametrize("use_subdir", [True, False])
@pytest.mark.parametrize("kind", ["folder", "s3"])
async def test_redun_reads_ours_and_we_read_reduns(
    kind: str, use_subdir: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if kind == "s3":
        request.getfixturevalue("object_store")
        root = create_bucket() + "/values"
    else:
        root = str(tmp_path)
    ours, theirs = ValueStore(root, use_subdir), RedunValueStore(root, use_subdir)
    mine, yours = make_value(b"mine" * 1000), make_value(["yours"] * 1000)
    await ours.put(*mine)
    assert theirs.get_value_path(mine[0]) == ours.get_value_path(mine[0])
    assert theirs.has(mine[0])
    assert theirs.size(mine[0]) == len(mine[1])
    assert theirs.get(mine[0]) == (mine[1], True)
    theirs.put(*yours)
    assert await ours.get(yours[0], "builtins.list") == (yours[1], True)
    assert await ours.size(yours[0]) == len(yours[1])
    assert theirs.get("0" * 40) == await ours.get("0" * 40) == (b"", False)


async def test_damage_is_reported_and_repaired(root: str) -> None:
    store = ValueStore(root)
    value_hash, data = make_value("precious" * 500)
    await store.put(value_hash, data)
    with fsspec.open(store.get_value_path(value_hash), "wb") as file:
        file.write(data[:100] + b"?" + data[101:])
    with pytest.raises(CorruptValueError, match="restore or delete the file") as caught:
        await store.get(value_hash, "builtins.str")
    assert "\n" not in str(caught.value)
    await store.put(value_hash, data)
    assert await store.get(value_hash, "builtins.str") == (data, True)


async def test_half_a_file_is_reported_and_replaced(root: str) -> None:
    store = ValueStore(root)
    value_hash, data = make_value({"a": "precious" * 500})
    await ValueStore(root).put(value_hash, data[: len(data) // 2])
    with pytest.raises(CorruptValueError):
        await store.get(value_hash)
    await ValueStore(root).put(value_hash, data)
    assert await store.get(value_hash) == (data, True)


def test_is_intact_allows_for_other_recipes() -> None:
    value_hash, data = make_value([1, 2])
    assert is_intact(value_hash, data)
    other = "1" * 40
    assert is_intact(other, data, "my.module.Handle")
    assert is_intact(other, data, "builtins.set")
    assert not is_intact(other, data, "builtins.list")
    assert not is_intact(other, data[:-1], "my.module.Handle")
    assert not is_intact(other, b"")
    assert is_intact(other, b"any text", "my.module.Table")
    assert is_intact(other, b"\x80 any bytes", "my.module.Table")
    assert is_intact(hash_tag_bytes("Value", b""), b"")


async def test_readers_never_see_half_a_value(tmp_path: Path) -> None:
    value_hash, data = make_value(os.urandom(4_000_000))
    path = Path(ValueStore(str(tmp_path)).get_value_path(value_hash))
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with suppress(FileNotFoundError):
                seen.add(path.stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    # Stores of their own, as in several processes: each finds the file missing and writes it.
                    group.create_task(ValueStore(str(tmp_path)).put(value_hash, data))
            await asyncio.to_thread(path.unlink)
    finally:
        stop.set()
        watcher.join()
    assert seen <= {len(data)}
    assert list(path.parent.iterdir()) == []


async def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value_hash, data = make_value("x" * 100)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    store = ValueStore(str(tmp_path))
    with pytest.raises(RedunDatabaseError, match=r"cannot store .* No space left on device"):
        await store.put(value_hash, data)
    assert [files for _, _, files in os.walk(tmp_path) if files] == []
    assert await store.get(value_hash) == (b"", False)


async def test_files_are_readable_for_the_group(tmp_path: Path) -> None:
    store = ValueStore(str(tmp_path))
    value_hash, data = make_value("shared")
    await store.put(value_hash, data)
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert os.stat(store.get_value_path(value_hash)).st_mode == os.stat(plain).st_mode


async def test_large_objects_go_in_parts(object_store: str) -> None:
    store = ValueStore(create_bucket())
    value_hash, data = make_value(os.urandom(1 << 20) * 101)
    await store.put(value_hash, data)
    assert await store.size(value_hash) == len(data)
    assert (await store.get(value_hash))[0] == data


async def test_bad_names_and_places(tmp_path: Path) -> None:
    store = ValueStore(str(tmp_path))
    with pytest.raises(InvalidValueError, match="is not a value hash"):
        await store.get("../../../etc/passwd")
    with pytest.raises(RedunDatabaseError, match="value_store_path 'what://ever' cannot be used"):
        await ValueStore("what://ever").has("1" * 40)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AredunError, match="cannot store"):
        await ValueStore(str(tmp_path / "file")).put(*make_value(1))


async def test_missing_bucket_means_missing_data(object_store: str) -> None:
    assert await ValueStore("s3://nowhere-at-all/values").get("1" * 40) == (b"", False)
