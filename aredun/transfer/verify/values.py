"""Verification of values: they have their bytes, those have their hash, and files have their paths."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.models import Value
from aredun.storage.rows import FILE
from aredun.storage.value_store import CorruptValueError
from aredun.transfer.record_checks import Verdict, check_value
from aredun.transfer.records.read import NOT_ITS_OWN, read_data, read_stored
from aredun.transfer.records.select import LARGE_VALUE, SELECT_VALUES
from aredun.values.previews import preview_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.verify.context import Context


async def check_values(context: Context) -> None:
    """Check that values have their bytes, that those have their hash, and that files have their paths."""
    async for keys in context.iter_keys("value", Value.value_hash):
        (rows,) = await context.fetch(keys, SELECT_VALUES)
        small = [row for row in rows if row.data]
        for row, verdict in zip(small, await asyncio.to_thread(_check_rows, small), strict=True):
            await _report_hash(context, row.value_hash, row.type, verdict)
            if row.type == "redun.File" and row.path is None and verdict is Verdict.RIGHT:
                await _restore_path(context, row)
        for row in rows:
            if not row.data:
                await _check_large(context, row.value_hash, row.type, row.format, row.size)


def _check_rows(rows: Sequence[Row]) -> list[Verdict]:
    return [check_value(row.value_hash, row.type, row.format, row.data) for row in rows]


async def _report_hash(context: Context, value_hash: str, type_name: str, verdict: Verdict) -> None:
    if verdict is Verdict.UNVERIFIABLE:
        context.report.unverifiable += 1
    if verdict is not Verdict.WRONG:
        return
    repaired = context.repair and await _is_stored(context, value_hash, type_name)
    if repaired:
        # As it was recorded: the value store has the bytes of a value whose row is empty.
        await context.update(Value, Value.value_hash, [value_hash], {"value": b""})
    detail = f"its bytes ({type_name}) have another hash"
    context.found("wrong hash", f"Value {value_hash}", detail, repaired=repaired)


async def _is_stored(context: Context, value_hash: str, type_name: str) -> bool:
    if context.value_store is None:
        return False
    try:
        _, found = await context.value_store.get(value_hash, type_name)
    except CorruptValueError:
        return False
    return found


async def _restore_path(context: Context, row: Row) -> None:
    """Report a file without the row by which its path is found, and make that of its state."""
    path: Any = getattr(preview_value(row.type, row.format, row.data), "path", None)
    repaired = context.repair and isinstance(path, str)
    if repaired:
        await context.insert("file", [FILE.row(value_hash=row.value_hash, path=path)])
    detail = "its path is not among the files"
    context.found("missing file", f"Value {row.value_hash}", detail, repaired=repaired)


async def _check_large(
    context: Context, value_hash: str, type_name: str, value_format: str, size: int
) -> None:
    """Check a value that is large, or in the value store."""
    name = f"Value {value_hash}"
    if size > LARGE_VALUE:
        data, problem = await read_data(context.database, None, value_hash, type_name, value_format)
    else:
        data, problem = await read_stored(context.value_store, value_hash, type_name, value_format)
    if problem:
        context.found("wrong hash" if problem == NOT_ITS_OWN else "missing bytes", name, problem)
        return
    verdict = await asyncio.to_thread(check_value, value_hash, type_name, value_format, data)
    await _report_hash(context, value_hash, type_name, verdict)
