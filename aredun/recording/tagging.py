"""Tags on their way to the database: what supersedes nothing is queued as rows, the rest is an operation."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aredun.errors import RedunDatabaseError, UsageError
from aredun.formats.describe import shorten
from aredun.recording import tags as operations
from aredun.storage.refusals import describe_limit
from aredun.storage.retry import is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aredun.recording.tags import KeyValue, TagResult
    from aredun.storage import Database


async def record_tags(
    database: Database,
    entity_type: Any,
    entity_id: str,
    tags: Iterable[KeyValue],
    parents: Iterable[str],
    update: bool,
    new: bool,
) -> list[TagResult]:
    """Record tags, as `RedunBackendDb.record_tags` says."""
    pairs, parent_hashes = list(tags), list(parents)
    with _name_refused(entity_id, pairs):
        if update or new or parent_hashes:
            return await database.write(
                lambda session: operations.record_tags(
                    session, entity_type, entity_id, pairs, parent_hashes, update, new
                )
            )
        results, write = operations.make_tag_write(entity_type, entity_id, pairs)
        if results:
            await database.write_rows(write)
        return results


async def update_tags(
    database: Database,
    entity_type: Any,
    entity_id: str,
    old_keys: Iterable[str],
    new_tags: Iterable[KeyValue],
) -> list[TagResult]:
    """Supersede current tags of some keys, as `RedunBackendDb.update_tags` says."""
    keys, pairs = list(old_keys), list(new_tags)
    with _name_refused(entity_id, pairs):
        return await database.write(
            lambda session: operations.update_tags(session, entity_type, entity_id, keys, pairs)
        )


async def delete_tags(
    database: Database, entity_id: str, tags: Iterable[KeyValue], keys: Iterable[str]
) -> list[TagResult]:
    """Delete current tags, as `RedunBackendDb.delete_tags` says."""
    pairs, key_list = list(tags), list(keys)
    return await database.write(lambda session: operations.delete_tags(session, entity_id, pairs, key_list))


@contextmanager
def _name_refused(entity_id: str, pairs: Sequence[KeyValue]) -> Iterator[None]:
    """Raise a `UsageError` with the name of the largest tag where the database refuses tags."""
    try:
        yield
    except RedunDatabaseError as error:
        if not is_refusal(error) or not pairs:
            raise
        key = max(pairs, key=lambda pair: len(repr(pair)))[0]
        reason = describe_limit(error) or str(error)
        name = f"tag {shorten(repr(key), 60)} of {shorten(repr(entity_id), 60)}"
        raise UsageError(f"{name} cannot be recorded: {reason}") from error
