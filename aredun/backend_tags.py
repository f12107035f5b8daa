"""The part of the backend that keeps tags and handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun import handles, tags
from aredun.recording import make_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aredun.database import Database
    from aredun.multimap import MultiMap
    from aredun.recording import Recorder

    TagResult = tuple[str, str, str, Any]


class TagsMixin:
    """Tags and handles: what `RedunBackendDb` keeps a history of."""

    _recorder: Recorder

    @property
    def database(self) -> Database:
        """The database that is open."""
        raise AttributeError("database")

    async def advance_handle(self, parent_handles: Sequence[Any], child_handle: Any) -> None:
        """Record that a handle's state follows from others, in one transaction (mirrors redun's method).

        Parameters
        ----------
        parent_handles : sequence of Handle
            The states before; recorded and valid afterwards.
        child_handle : Handle
            The state after; recorded and valid afterwards.
        """
        unit = await self._recorder.make_handle_advance(parent_handles, child_handle)
        await self.database.write_unit(unit)

    async def rollback_handle(self, handle: Any) -> None:
        """Make all states that follow from a handle's invalid."""
        await self.database.write(lambda session: handles.rollback_handle(session, handle))

    async def is_valid_handle(self, handle: Any) -> bool:
        """Tell whether a handle's state is current or leads to the current one."""
        return await self.database.read(lambda session: handles.is_valid_handle(session, handle))

    async def record_tags(
        self,
        entity_type: Any,
        entity_id: str,
        tags: Iterable[tuple[str, Any]],
        parents: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[TagResult]:
        """Record tags of an entity (mirrors redun's method).

        Parameters
        ----------
        entity_type : TagEntity
            What is tagged: aredun's, redun's, or the name.
        entity_id : str
            Its id; it need not be recorded.
        tags : iterable of (key, value)
            Values are JSON.
        parents : iterable of str
            Hashes of tags that the new ones supersede.
        update : bool
            Supersede current tags of the same keys too; implies `new`.
        new : bool
            Make the tags current even if they were superseded before.

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The tags, those included that were there.

        Raises
        ------
        UsageError
            If a tag, the entity type or a parent is malformed or missing, or the database does not take the
            tags: PostgreSQL bounds the size of keys and values. Inside a batch its end raises that.
        """
        pairs, parent_hashes = list(tags), list(parents)
        with _name_refused(entity_id, pairs):
            if not (update or new or parent_hashes):
                results, unit = make_tags(entity_type, entity_id, pairs)
                if results:
                    await self.database.write_unit(unit)
                return results
            return await self.database.write(
                lambda session: _record_tags(
                    session, entity_type, entity_id, pairs, parent_hashes, update, new
                )
            )

    async def update_tags(
        self,
        entity_type: Any,
        entity_id: str,
        old_keys: Iterable[str],
        new_tags: Iterable[tuple[str, Any]],
    ) -> list[TagResult]:
        """Supersede an entity's current tags of some keys with new ones (mirrors redun's method).

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The new tags.
        """
        keys, pairs = list(old_keys), list(new_tags)
        with _name_refused(entity_id, pairs):
            return await self.database.write(
                lambda session: tags.update_tags(session, entity_type, entity_id, keys, pairs)
            )

    async def delete_tags(
        self, entity_id: str, tags: Iterable[tuple[str, Any]], keys: Iterable[str] = ()
    ) -> list[TagResult]:
        """Delete an entity's current tags, keeping their history (mirrors redun's method).

        Parameters
        ----------
        entity_id : str
        tags : iterable of (key, value)
            The tags to delete.
        keys : iterable of str
            Keys to delete with any value.

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The tag that marks the deletion.
        """
        pairs, key_list = list(tags), list(keys)
        return await self.database.write(lambda session: _delete_tags(session, entity_id, pairs, key_list))

    async def get_tags(self, entity_ids: Iterable[str]) -> dict[str, MultiMap[str, Any]]:
        """Get the current tags of entities, by id."""
        ids = list(entity_ids)
        return await self.database.read(lambda session: tags.get_tags(session, ids))


# The parameter `tags` of the reference hides the module of that name inside those methods.
_record_tags = tags.record_tags
_delete_tags = tags.delete_tags
_name_refused = tags.name_refused
