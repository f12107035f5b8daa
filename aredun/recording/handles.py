"""Handles: the states that one went through, and which of them are still valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.models import Handle, HandleEdge
from aredun.tables.column_types import in_array, insert_new

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession


def get_handles_to_record(parent_handles: Iterable[Any], child_handle: Any) -> list[Any]:
    """
    List the handles that must be recorded before an edge between them can be, as redun keeps books.

    A handle that was forked several times in a row may have ancestors that no one recorded: they come too.

    Parameters
    ----------
    parent_handles : iterable of Handle
        aredun's or redun's handles.
    child_handle : Handle

    Returns
    -------
    list of Handle
        Each hash once: unrecorded fork ancestors of the parents, then the child, then the parents.
    """
    parents = list(parent_handles)
    found: dict[str, Any] = {}
    for parent in parents:
        info = parent.__handle__
        ancestor = None if info.is_recorded else info.fork_parent
        while ancestor is not None and ancestor.__handle__.hash not in found:
            found[ancestor.__handle__.hash] = ancestor
            ancestor = ancestor.__handle__.fork_parent
    for handle in (child_handle, *parents):
        found.setdefault(handle.__handle__.hash, handle)
    return list(found.values())


def mark_handles_recorded(handles: Iterable[Any]) -> None:
    """Note on handles that they are in the database; call it once the transaction is committed."""
    for handle in handles:
        handle.__handle__.is_recorded = True


async def advance_handle(session: AsyncSession, parent_handles: Iterable[Any], child_handle: Any) -> None:
    """Record that a handle's state follows from others, as `RedunBackendDb.advance_handle` says.

    The values of `get_handles_to_record` must be recorded in the same transaction or before;
    `mark_handles_recorded` belongs after its commit.
    """
    parents = list(parent_handles)
    rows = [_handle_row(handle) for handle in get_handles_to_record(parents, child_handle)]
    rows.sort(key=lambda row: row["hash"])
    await session.execute(insert_new(Handle.__table__), rows)
    await _set_valid(session, [row["hash"] for row in rows], valid=True)
    child_hash = child_handle.__handle__.hash
    edges = sorted({parent.__handle__.hash for parent in parents})
    if edges:
        edge_rows = [{"parent_id": parent, "child_id": child_hash} for parent in edges]
        await session.execute(insert_new(HandleEdge.__table__), edge_rows)


async def rollback_handle(session: AsyncSession, handle: Any) -> None:
    """Make all states that follow from a handle's invalid; its own stays as it is, and may be unrecorded.

    Descendants are reached through valid handles of the same full name, as in redun. A state that is recorded
    while this runs is either seen, and made invalid, or is recorded after it, and is valid.
    """
    info = handle.__handle__
    await _lock(session, [info.hash])
    locked: set[str] = set()
    # Whoever adds a state locks the state before it; so once no descendant is new, none can appear any more.
    while True:
        descendants = set(await session.scalars(_descendants(info.hash, info.fullname)))
        if descendants <= locked:
            break
        locked |= descendants
        await _lock(session, sorted(locked))
    await _set_valid(session, sorted(descendants), valid=False)


async def is_valid_handle(session: AsyncSession, handle: Any) -> bool:
    """Tell whether a handle's state is recorded, and current or leads to the current one."""
    return bool(await get_valid_handles(session, [handle.__handle__.hash]))


async def get_valid_handles(session: AsyncSession, handle_hashes: Iterable[str]) -> set[str]:
    """Return the hashes of valid handles among many."""
    found = await session.scalars(
        sa.select(Handle.hash).where(in_array(Handle.hash, set(handle_hashes)), Handle.is_valid.is_(True))
    )
    return set(found)


def _handle_row(handle: Any) -> dict[str, Any]:
    info = handle.__handle__
    # A handle's value has the handle's own hash.
    return {
        "hash": info.hash,
        "fullname": info.fullname,
        "value_hash": info.hash,
        "key": info.key,
        "is_valid": True,
    }


def _descendants(handle_hash: str, fullname: str) -> sa.Select[str]:
    """Select the hashes of all states after one; UNION, not UNION ALL, ends at cycles."""
    from_valid = (
        sa.select(HandleEdge.child_id)
        .join(Handle, Handle.hash == HandleEdge.parent_id)
        .where(Handle.fullname == fullname, Handle.is_valid.is_(True))
    )
    found = from_valid.where(HandleEdge.parent_id == handle_hash).cte("descendant", recursive=True)
    found = found.union(from_valid.join(found, found.c.child_id == HandleEdge.parent_id))
    return sa.select(found.c.child_id)


async def _set_valid(session: AsyncSession, hashes: Sequence[str], *, valid: bool) -> None:
    if not hashes:
        return
    await _lock(session, hashes)
    await session.execute(
        sa.update(Handle)
        .where(in_array(Handle.hash, hashes), Handle.is_valid.is_(not valid))
        .values(is_valid=valid)
        .execution_options(synchronize_session=False)
    )


async def _lock(session: AsyncSession, hashes: Sequence[str]) -> None:
    """Lock handles in one order, so that writers wait for each other instead of deadlocking."""
    await session.execute(
        sa.select(Handle.hash).where(in_array(Handle.hash, hashes)).order_by(Handle.hash).with_for_update()
    )
