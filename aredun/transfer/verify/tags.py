"""Verification of tags: their hashes, which of them are current, and what they hang on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.loop.pacing import iter_parts
from aredun.models import Tag, TagEdit
from aredun.storage.record_rows import TABLES, select_column, select_rows
from aredun.storage.rows import TAG
from aredun.tables.column_types import in_array, in_list, lock_table
from aredun.transfer.record_checks import check_tag, normalize_json
from aredun.transfer.record_fields import KEYS, TAGGED
from aredun.transfer.records.read import fetch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.transfer.verify.context import Context

_FLAGS: Final = sa.select(Tag.tag_hash, Tag.is_current).where(in_list(Tag.tag_hash, "ids", sparse=True))


async def check_tags(context: Context) -> None:
    """Check the hashes of tags, and that those which others replace are not current."""
    async for keys in context.iter_keys("tag", Tag.tag_hash):
        tags, edits, flags, replaced = await context.fetch(
            keys,
            select_rows("tag", "tag_hash"),
            select_rows("tag_edit", "child_id"),
            _FLAGS,
            select_column("tag_edit", "parent_id", "parent_id"),
        )
        for tag_hash in await asyncio.to_thread(_find_wrong, tags, edits):
            detail = "it does not follow from its entity, key, value and parents"
            context.found("wrong hash", f"Tag {tag_hash}", detail)
        old = {row.parent_id for row in replaced}
        wrong = [row for row in flags if bool(row.is_current) == (row.tag_hash in old)]
        await _correct(context, {row.tag_hash: not row.is_current for row in wrong})


async def _correct(context: Context, flags: dict[str, bool]) -> None:
    for right in (True, False):
        hashes = [tag_hash for tag_hash, flag in flags.items() if flag is right]
        if context.repair and hashes:
            await context.update(Tag, Tag.tag_hash, hashes, {"is_current": right})
    for tag_hash, right in flags.items():
        reason = "no tag replaces it" if right else "another tag replaces it"
        detail = f"it is {not right}, but {reason}"
        context.found("wrong is_current", f"Tag {tag_hash}", detail, repaired=context.repair)


def _find_wrong(tags: Iterable[Any], edits: Iterable[Any]) -> list[str]:
    parents: dict[str, list[str]] = defaultdict(list)
    for parent, child in edits:
        parents[child].append(parent)
    wrong = []
    for row in tags:
        tag = TAG.record_row(*row)._replace(value=normalize_json(row.value))
        if not check_tag(tag, parents.get(tag.tag_hash, ())):
            wrong.append(tag.tag_hash)
    return wrong


# Seconds that a repair waits before it removes tags of an execution that is not there: a new run records its
# tags right before its execution.
BEGINNING: Final = 2.0
_BATCH: Final = 1000


async def check_owners(context: Context) -> None:
    """Check that what tags hang on is there; in a repair, remove the tags and their edits where it is not."""
    orphans = await context.database.read(_find_orphans)
    if not orphans:
        return
    removed: set[str] = set()
    if context.repair:
        if any(kind == "Execution" for kind, _ in orphans.values()):
            await asyncio.sleep(BEGINNING)
        orphans, removed = await context.database.write(
            lambda session: _remove(session, orphans), own_transaction=True
        )
    for tag_hash, (kind, entity_id) in orphans.items():
        detail = f"the {kind} {entity_id} that it hangs on is missing"
        context.found("dangling reference", f"Tag {tag_hash}", detail, repaired=tag_hash in removed)


async def _find_orphans(session: AsyncSession) -> dict[str, tuple[str, str]]:
    """Return the tags whose owner is missing, with the kind and id of that."""
    orphans: dict[str, tuple[str, str]] = {}
    for kind in TAGGED:
        target, key = KEYS[kind]
        goal = TABLES[target].alias("goal")
        tag = aliased(Tag)
        statement = (
            sa.select(tag.tag_hash, tag.entity_id)
            .outerjoin(goal, goal.c[key] == tag.entity_id)
            .where(tag.entity_type == kind, goal.c[key].is_(None))
        )
        orphans |= {tag_hash: (kind, owner) for tag_hash, owner in await fetch(session, statement)}
    return orphans


async def _remove(
    session: AsyncSession, known: dict[str, tuple[str, str]]
) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """Remove tags that have been without owner for a while; return those, and which of them are gone."""
    # A sync or an import writes an owner and its tags in one transaction, but leaves out tags that are there:
    # while the table is locked, no owner of these can be about to come.
    await session.execute(lock_table(TABLES["tag"]))
    now = await _find_orphans(session)
    orphans = {tag: owner for tag, owner in known.items() if tag in now}
    removable = await _find_removable(session, orphans)
    for part in iter_parts(sorted(removable), _BATCH):
        edits = sa.delete(TagEdit).where(
            sa.or_(in_array(TagEdit.parent_id, part), in_array(TagEdit.child_id, part))
        )
        await session.execute(edits.execution_options(synchronize_session=False))
    for part in iter_parts(sorted(removable), _BATCH):
        tags = sa.delete(Tag).where(in_array(Tag.tag_hash, part))
        await session.execute(tags.execution_options(synchronize_session=False))
    return orphans, removable


async def _find_removable(session: AsyncSession, orphans: Collection[str]) -> set[str]:
    """Return those of some tags that no other tag was made from, with the deletions that mark only them."""
    # The hash of a tag is taken over those that it replaces: as long as it stays, they stay.
    removable = set(orphans)
    edits = await _get_edits(session, TagEdit.parent_id, removable)
    children = {child for _, child in edits} - removable
    if children:
        kinds = sa.select(Tag.tag_hash).where(in_array(Tag.tag_hash, children), Tag.entity_type == "Null")
        deletions = {row[0] for row in await fetch(session, kinds)}
        kept = {
            child
            for parent, child in await _get_edits(session, TagEdit.child_id, deletions)
            if parent not in removable
        }
        kept |= {parent for parent, _ in await _get_edits(session, TagEdit.parent_id, deletions)}
        removable |= deletions - kept
    while bound := {parent for parent, child in edits if parent in removable and child not in removable}:
        removable -= bound
    return removable


async def _get_edits(session: AsyncSession, column: Any, tags: Collection[str]) -> list[tuple[str, str]]:
    edits: list[tuple[str, str]] = []
    for part in iter_parts(sorted(tags), _BATCH):
        statement = sa.select(TagEdit.parent_id, TagEdit.child_id).where(in_array(column, part))
        edits += [(parent, child) for parent, child in await fetch(session, statement)]
    return edits
