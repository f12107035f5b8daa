"""Tags: recorded, superseded, deleted and read, with the history of edits that redun keeps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.errors import UsageError
from aredun.formats.hashing import hash_tag
from aredun.formats.tag_syntax import check_tag_value, is_storable_text
from aredun.models import Tag, TagEdit
from aredun.recording.multimap import MultiMap
from aredun.storage.rows import TAG
from aredun.storage.writes import Write
from aredun.tables.column_types import JSON, TagEntity, in_array, insert_new, transaction_lock

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

KeyValue = tuple[str, Any]
TagRow = dict[str, Any]
TagResult = tuple[str, str, str, Any]

# How many steps of a chain of edits are looked up at once, at most.
_MAX_CHAIN_STEP = 64


@dataclass(frozen=True)
class _Entity:
    """What tags hang on."""

    kind: TagEntity
    key: str

    def tag_row(self, key: str, value: Any, parents: list[str]) -> TagRow:
        return {
            "tag_hash": hash_tag(self.key, key, value, parents),
            "entity_type": self.kind,
            "entity_id": self.key,
            "key": key,
            "value": value,
            "is_current": True,
        }

    def get_results(self, rows: Iterable[TagRow]) -> list[TagResult]:
        return [(row["tag_hash"], self.key, row["key"], row["value"]) for row in rows]


def make_tag_write(
    entity_type: Any, entity_id: str, tags: Iterable[KeyValue]
) -> tuple[list[TagResult], Write]:
    """Return tags that supersede nothing, as `record_tags` returns them, and the write that records them."""
    entity = _Entity(parse_tag_entity(entity_type), entity_id)
    rows = [entity.tag_row(key, value, []) for key, value in check_pairs(tags)]
    return entity.get_results(rows), Write(rows=[(TAG, TAG.row(**row)) for row in rows])


def parse_tag_entity(entity_type: Any) -> TagEntity:
    """
    Turn an entity type into aredun's enum.

    Parameters
    ----------
    entity_type : TagEntity | str
        redun's enum and the bare name (`"Job"`) will do.

    Raises
    ------
    UsageError
        If there is no such type.
    """
    try:
        return TagEntity(getattr(entity_type, "value", entity_type))
    except ValueError:
        known = ", ".join(kind.name for kind in TagEntity)
        raise UsageError(f"unknown tag entity type {entity_type!r}: give one of {known}") from None


async def record_tags(
    session: AsyncSession,
    entity_type: Any,
    entity_id: str,
    tags: Iterable[KeyValue],
    parents: Iterable[str] = (),
    update: bool = False,
    new: bool = False,
) -> list[TagResult]:
    """Record tags in a write transaction, as `RedunBackendDb.record_tags` says.

    Writers of the same entity's edits wait for each other, so none is lost: an update always supersedes what
    the update before it left. A tag that was superseded before is recorded again, because of `new`, at the
    end of its chain of edits, and left out of what is returned, as redun leaves it out.
    """
    pairs = check_pairs(tags)
    if not pairs:
        return []
    entity = _Entity(parse_tag_entity(entity_type), entity_id)
    given_parents = sorted(set(parents))
    if update or new or given_parents:
        await _lock_entity(session, entity_id)
    if update:
        keys = {key for key, _ in pairs}
        given_parents += await _current_tags(session, entity_id, in_array(Tag.key, keys))
    return await _write_tags(session, entity, pairs, sorted(set(given_parents)), new or update)


async def update_tags(
    session: AsyncSession,
    entity_type: Any,
    entity_id: str,
    old_keys: Iterable[str],
    new_tags: Iterable[KeyValue],
) -> list[TagResult]:
    """Supersede current tags of some keys in a write transaction, as `RedunBackendDb.update_tags` says."""
    pairs = check_pairs(new_tags)
    entity = _Entity(parse_tag_entity(entity_type), entity_id)
    if not pairs:
        return []
    await _lock_entity(session, entity_id)
    parents = await _current_tags(session, entity_id, in_array(Tag.key, set(old_keys)))
    return await _write_tags(session, entity, pairs, sorted(parents), new=False)


async def delete_tags(
    session: AsyncSession, entity_id: str, tags: Iterable[KeyValue], keys: Iterable[str] = ()
) -> list[TagResult]:
    """Delete current tags in a write transaction, as `RedunBackendDb.delete_tags` says."""
    conditions: list[sa.ColumnElement[bool]] = [
        sa.and_(Tag.key == key, Tag.value == sa.literal(value, JSON())) for key, value in check_pairs(tags)
    ]
    key_set = set(keys)
    if key_set:
        conditions.append(in_array(Tag.key, key_set))
    if not conditions:
        raise UsageError("no tags to delete: give key=value or a key")
    await _lock_entity(session, entity_id)
    parents = await _current_tags(session, entity_id, sa.or_(*conditions))
    return await _write_tags(session, _Entity(TagEntity.Null, ""), [("", None)], sorted(parents), new=False)


async def get_tags(session: AsyncSession, entity_ids: Iterable[str]) -> dict[str, MultiMap[str, Any]]:
    """Return the current tags of entities that have some, by id, ordered by key, then by hash."""
    rows = await session.execute(
        sa.select(Tag.entity_id, Tag.key, Tag.value)
        .where(in_array(Tag.entity_id, set(entity_ids)), Tag.is_current.is_(True))
        .order_by(Tag.entity_id, Tag.key, Tag.tag_hash)
    )
    tags: dict[str, MultiMap[str, Any]] = {}
    for entity_id, key, value in rows:
        tags.setdefault(entity_id, MultiMap()).add(key, value)
    return tags


async def _write_tags(
    session: AsyncSession, entity: _Entity, pairs: list[KeyValue], parents: list[str], new: bool
) -> list[TagResult]:
    """Write tags and their edits, and take the parents' place."""
    await _supersede(session, parents)
    rows = [entity.tag_row(key, value, parents) for key, value in pairs]
    moved: list[tuple[TagRow, str]] = []
    if new:
        superseded = await _superseded(session, [row["tag_hash"] for row in rows])
        moved = [await _follow_chain(session, entity, row) for row in rows if row["tag_hash"] in superseded]
        rows = [row for row in rows if row["tag_hash"] not in superseded]
        await _supersede(session, sorted(parent for _, parent in moved))
    tag_rows = {row["tag_hash"]: row for row in [*rows, *(row for row, _ in moved)]}
    edits = {(parent, row["tag_hash"]) for row in rows for parent in parents}
    edits.update((parent, row["tag_hash"]) for row, parent in moved)
    if tag_rows:
        await session.execute(insert_new(Tag.__table__), [tag_rows[key] for key in sorted(tag_rows)])
    if edits:
        edit_rows = [{"parent_id": parent, "child_id": child} for parent, child in sorted(edits)]
        await session.execute(insert_new(TagEdit.__table__), edit_rows)
    return entity.get_results(rows)


async def _follow_chain(session: AsyncSession, entity: _Entity, row: TagRow) -> tuple[TagRow, str]:
    """Return the first repetition of a tag that nothing has superseded, and the hash of its parent."""
    # The only parent of a repetition is the one before it, so all hashes of the chain are known beforehand.
    step = 1
    while True:
        chain = [row]
        for _ in range(step):
            chain.append(entity.tag_row(row["key"], row["value"], [chain[-1]["tag_hash"]]))
        superseded = await _superseded(session, [link["tag_hash"] for link in chain[1:]])
        for parent, link in pairwise(chain):
            if link["tag_hash"] not in superseded:
                return link, parent["tag_hash"]
        row = chain[-1]
        step = min(2 * step, _MAX_CHAIN_STEP)


async def _lock_entity(session: AsyncSession, entity_id: str) -> None:
    await session.execute(transaction_lock(f"tag:{entity_id}"))


async def _current_tags(
    session: AsyncSession, entity_id: str, condition: sa.ColumnElement[bool]
) -> list[str]:
    """Return the hashes of an entity's current tags that meet a condition."""
    found = await session.scalars(
        sa.select(Tag.tag_hash).where(Tag.is_current.is_(True), Tag.entity_id == entity_id, condition)
    )
    return list(found)


async def _superseded(session: AsyncSession, tag_hashes: list[str]) -> set[str]:
    """Return those of the tags that another tag supersedes."""
    found = await session.scalars(
        sa.select(TagEdit.parent_id).where(in_array(TagEdit.parent_id, tag_hashes)).distinct()
    )
    return set(found)


async def _supersede(session: AsyncSession, parents: list[str]) -> None:
    """Make tags not current; all of them must exist."""
    if not parents:
        return
    locked = await session.execute(
        sa.select(Tag.tag_hash, Tag.is_current)
        .where(in_array(Tag.tag_hash, parents))
        .order_by(Tag.tag_hash)
        .with_for_update()
    )
    current = {row.tag_hash: row.is_current for row in locked}
    missing = [parent for parent in parents if parent not in current]
    if missing:
        raise UsageError(f"no tag has the hash {missing[0]!r}: parents must be hashes of existing tags")
    if any(current.values()):
        await session.execute(
            sa.update(Tag)
            .where(in_array(Tag.tag_hash, parents))
            .values(is_current=False)
            .execution_options(synchronize_session=False)
        )


def is_sound(pair: Any, logger: logging.Logger) -> bool:
    """Tell whether a key and a value can be a tag; the log says why one that cannot is left out."""
    try:
        check_pairs([pair])
    except UsageError as error:
        logger.warning("%s; it is left out", error)
        return False
    return True


def check_pairs(tags: Iterable[KeyValue]) -> list[KeyValue]:
    """Check keys and values, and give values the form in which the database returns them."""
    pairs: list[KeyValue] = []
    for tag in tags:
        try:
            key, value = tag
        except (TypeError, ValueError):
            raise UsageError(f"tag {tag!r} is not a pair: give (key, value)") from None
        if not isinstance(key, str) or not is_storable_text(key):
            raise UsageError(f"tag key {key!r} is not valid: give a string without NUL characters")
        try:
            pairs.append((key, check_tag_value(value)))
        except UsageError as error:
            raise UsageError(f"tag {key!r} cannot be recorded: {error}") from None
    return pairs
