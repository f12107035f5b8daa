"""Verification of tags: their hashes, and which of them are current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.models import Tag
from aredun.storage.record_rows import select_column, select_rows
from aredun.storage.rows import TAG
from aredun.tables.column_types import in_list
from aredun.transfer.record_checks import check_tag, normalize_json

if TYPE_CHECKING:
    from collections.abc import Iterable

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
