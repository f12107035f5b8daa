"""Values whose bytes are lost: whoever hands records on names them, and hands no empty bytes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import redun.backends.db

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.errors import InvalidRecordError
from aredun.redun_bridge import RedunBackendDb as BridgeBackend
from tests.support.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUES = ["small", "a" * 3000, "b" * 3000, "c" * 3000]


class Stored:
    """A repository with a value store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.hashes: list[str] = []

    def configure(self, value_store: bool = True) -> dict[str, str]:
        """Write its settings, with or without the value store; return them."""
        config = {"db_uri": self.url} | ({"value_store_path": f"{self.folder}/values"} if value_store else {})
        lines = [f"{name} = {text}\n" for name, text in config.items()]
        (self.folder / "redun.ini").write_text("".join(["[backend]\n", *lines]))
        return config

    def path(self, number: int) -> Path:
        """Return the file of a value."""
        value_hash = self.hashes[number]
        return self.folder / "values" / value_hash[:2] / value_hash[2:]


@pytest.fixture
async def stored(database_url: str, tmp_path: Path) -> Stored:
    made = Stored(tmp_path / "config", database_url)
    made.folder.mkdir()
    async with RedunBackendDb(config=made.configure()) as backend:
        made.hashes = [await backend.record_value(value) for value in VALUES]
    return made


def unset(stored: Stored) -> tuple[list[int], str]:
    stored.configure(value_store=False)
    return [1, 2, 3], "its bytes are in a value store, and value_store_path is not set"


def remove(stored: Stored) -> tuple[list[int], str]:
    stored.path(2).unlink()
    return [2], "its bytes are not in the value store"


def truncate(stored: Stored) -> tuple[list[int], str]:
    stored.path(2).write_bytes(stored.path(2).read_bytes()[:-200])
    return [2], "its file in the value store holds something else"


def swap(stored: Stored) -> tuple[list[int], str]:
    first, second = stored.path(1).read_bytes(), stored.path(2).read_bytes()
    stored.path(1).write_bytes(second)
    stored.path(2).write_bytes(first)
    return [1, 2], "its file in the value store holds something else"


@pytest.mark.parametrize("damage", [unset, remove, truncate, swap])
async def test_commands_name_them(
    damage: Callable[[Stored], tuple[list[int], str]],
    stored: Stored,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost, reason = damage(stored)
    hashes = stored.hashes
    names = {hashes[number] for number in lost}

    def check(code: int, prefix: str) -> str:
        captured = capsys.readouterr()
        assert code == 2, captured
        lines = captured.err.splitlines()
        assert {line[len(prefix) :].split()[0] for line in lines if line.startswith(prefix)} == names
        assert all(line.endswith(reason) for line in lines if line.startswith(prefix))
        return captured.out

    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(main, [*arguments, "--config", str(stored.folder)])

    path = tmp_path / "records.jsonl"
    left = len(hashes) - len(names)
    out = check(await run("export", *hashes, "--dry-run"), "aredun: left out: Value")
    assert f"would export {left} records" in out
    check(await run("export", *hashes, "--file", str(path)), "aredun: left out: Value")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert {record["value_hash"] for record in records} == set(hashes) - names
    assert all(record["data"] for record in records)
    new = str(tmp_path / "new.db")
    async with RedunBackendDb(f"sqlite:///{new}"):
        pass
    out = check(await run("sync", "default", new, *hashes, "--dry-run"), "aredun: refused: Value")
    assert f"would copy {left} records" in out
    out = check(await run("sync", "default", new, *hashes), "aredun: refused: Value")
    assert f"copied {left} records" in out


async def test_the_api_and_the_bridge_raise_at_the_end(stored: Stored) -> None:
    _, reason = remove(stored)
    message = f"Value {stored.hashes[2]} is incomplete: {reason}"
    kept = [each for number, each in enumerate(stored.hashes) if number != 2]
    seen: list[str] = []
    async with RedunBackendDb(config=stored.configure()) as backend:

        async def read() -> None:
            async for record in backend.get_records(stored.hashes):
                seen.append(record["value_hash"])

        with pytest.raises(InvalidRecordError, match=message):
            await read()
        assert seen == kept
        problems = (await verify(backend)).problems
        assert [(each.record, each.detail) for each in problems] == [(f"Value {stored.hashes[2]}", reason)]
        assert await backend.get_value(stored.hashes[2]) == (None, False)
    bridge: Any = BridgeBackend(config=stored.configure())
    bridge.load()
    try:
        records = bridge.get_records(stored.hashes)
        assert [next(records)["value_hash"] for _ in kept] == kept
        with pytest.raises(redun.backends.db.RedunDatabaseError, match=message):
            next(records)
    finally:
        bridge.close()


@pytest.mark.parametrize("damaged", [False, True])
async def test_import_looks_into_the_file(
    stored: Stored, damaged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record without bytes goes in where the value store holds them, whole."""
    async with RedunBackendDb(config=stored.configure()) as backend:
        (record,) = [each async for each in backend.get_records(stored.hashes[1:2])]
    if damaged:
        stored.path(1).write_bytes(stored.path(1).read_bytes()[:-200])
    path = stored.folder / "records.jsonl"
    path.write_text(json.dumps({**record, "data": ""}))
    stored.url = f"sqlite:///{stored.folder}/new.db"
    stored.configure()
    async with RedunBackendDb(stored.url):
        pass
    for extra in (["--dry-run"], []):
        arguments = ["import", "--file", str(path), *extra, "--config", str(stored.folder)]
        code = await asyncio.to_thread(main, arguments)
        error = capsys.readouterr().err
        assert code == (2 if damaged else 0), error
        assert ("its file in the value store holds something else" in error) is damaged
        assert f"import{'' if extra else 'ed'} {0 if damaged else 1} " in error
