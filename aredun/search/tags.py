"""Current tags: those of records, in pages, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.formats.tag_syntax import ANY_VALUE
from aredun.models import Tag
from aredun.storage.reads import read_rows, read_scalars
from aredun.tables.column_types import JSON, TagEntity, in_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aredun.search.repository import Repository


async def load_tags(backend: Repository, entity_ids: Iterable[str], limit: int) -> list[Tag]:
    """Return current tags of records by their ids, each record's by key."""
    query = sa.select(Tag).where(in_array(Tag.entity_id, sorted(set(entity_ids))), Tag.is_current.is_(True))
    query = query.order_by(Tag.entity_id, Tag.key, Tag.tag_hash)
    return await read_scalars(backend.database, query.limit(limit))


async def list_current_tags(
    backend: Repository,
    key: str | None,
    entity_type: str | None,
    entity_id: str | None,
    *,
    after: str | None,
    limit: int,
) -> list[Tag]:
    """Return current tags by their hash, beyond one; those of a key, a type of record or a record."""
    kind = None if entity_type is None else TagEntity[entity_type]
    chosen = [
        column == sought
        for column, sought in ((Tag.key, key), (Tag.entity_type, kind), (Tag.entity_id, entity_id))
        if sought is not None
    ]
    query = sa.select(Tag).where(Tag.is_current.is_(True), Tag.tag_hash > (after or ""), *chosen)
    return await read_scalars(backend.database, query.order_by(Tag.tag_hash).limit(limit))


async def count_tag_keys(backend: Repository) -> Sequence[Any]:
    """Return the keys of current tags by type of record, and how many tags each has."""
    keys = sa.select(Tag.key, Tag.entity_type, sa.func.count()).where(Tag.is_current, Tag.key != "")
    return await read_rows(backend.database, keys.group_by(Tag.key, Tag.entity_type))


async def count_tag_values(backend: Repository, filters: Sequence[tuple[str, Any]]) -> Sequence[Any]:
    """Return the values of current tags by key and type of record, and how many there are; all, or some."""
    tags = sa.select(Tag.key, Tag.value, Tag.entity_type, sa.func.count())
    tags = tags.where(Tag.is_current, Tag.key != "")
    chosen = [
        Tag.key == key
        if value is ANY_VALUE
        else sa.and_(Tag.key == key, Tag.value == sa.cast(sa.literal(value, JSON()), JSON()))
        for key, value in filters
    ]
    if chosen:
        tags = tags.where(sa.or_(*chosen))
    return await read_rows(backend.database, tags.group_by(Tag.key, Tag.value, Tag.entity_type))
