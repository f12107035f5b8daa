"""The part of the backend that hands records in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun import records as operations

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

    from aredun.config import BackendConfig
    from aredun.database import Database
    from aredun.errors import InvalidRecordError
    from aredun.models import Base
    from aredun.record_fields import Record
    from aredun.value_store import ValueStore


class RecordsMixin:
    """Records in bulk, streaming: what `RedunBackendDb` does for export, import and sync."""

    value_store: ValueStore | None

    @property
    def config(self) -> BackendConfig:
        """The settings."""
        raise AttributeError("config")

    @property
    def database(self) -> Database:
        """The database that is open."""
        raise AttributeError("database")

    def get_records(
        self,
        ids: Iterable[str] | AsyncIterable[str],
        sorted: bool = True,
        *,
        on_incomplete: Callable[[InvalidRecordError], None] | None = None,
    ) -> AsyncIterator[Record]:
        """Yield the records of the given ids; unknown ids are passed over (mirrors redun's method).

        Parameters
        ----------
        ids : iterable or async iterable of str
            Record ids, of any kinds; they are read as they are needed.
        sorted : bool
            Keep the order of the ids. Otherwise the records of each batch come kind by kind.
        on_incomplete : callable, optional
            Is given the error of every value that is left out because its bytes are missing.

        Yields
        ------
        dict
            One record at a time; no connection is held meanwhile. The bytes of values come from the value
            store where they are in one.

        Raises
        ------
        InvalidRecordError
            Without `on_incomplete`, at the end, when values were left out: the value store that holds their
            bytes is not configured, or holds them no more, or holds something else.
        """
        return operations.get_records(
            self.database, ids, self.value_store, in_order=sorted, on_incomplete=on_incomplete
        )

    async def put_records(
        self,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        verify: bool = True,
        on_refused: Callable[[InvalidRecordError], None] | None = None,
        on_written: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write records that are not in the database yet; returns how many were new (mirrors redun's method).

        Records may come in any order, and from several writers at once. See `aredun.records.put_records`.

        Parameters
        ----------
        records : iterable or async iterable of dict
            The records; they are taken as they are written.
        verify : bool
            Refuse records whose hashes do not follow from their fields.
        on_refused : callable, optional
            Is given the error of every record that does not go in.
        on_written : callable, optional
            Is told after each transaction how many records it held, and how many were new.

        Raises
        ------
        InvalidRecordError
            Without `on_refused`, when records were refused; all others are written by then.
        """
        return await operations.put_records(
            self.database,
            records,
            self.value_store,
            verify=verify,
            value_store_min_size=self.config.value_store_min_size,
            on_refused=on_refused,
            on_written=on_written,
        )

    async def has_records(self, record_ids: Iterable[str] | AsyncIterable[str]) -> list[str]:
        """Return those of the ids that are in the database, in their order (mirrors redun's method)."""
        return await operations.has_records(self.database, record_ids)

    async def iter_record_ids(self, root_ids: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
        """Yield the ids of all records that the roots own, layer by layer, each once (as redun's method)."""
        async for record_id in operations.iter_record_ids(self.database, root_ids):
            yield record_id

    async def get_child_record_ids(
        self, model_ids: Iterable[tuple[type[Base], str]] | AsyncIterable[tuple[type[Base], str]]
    ) -> AsyncIterator[tuple[str, type[Base], str]]:
        """Yield the ownership edges of records as `(label, model, id)` (mirrors redun's method).

        Parameters
        ----------
        model_ids : iterable or async iterable of (model, id)
            The records, by model class.
        """
        async for edge in operations.get_child_record_ids(self.database, model_ids):
            yield edge
