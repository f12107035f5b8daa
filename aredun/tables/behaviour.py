"""What models do beside holding columns: finding their backend, statuses, previews, `__repr__`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import object_session

from aredun.errors import RedunDatabaseError
from aredun.loop.ending import finish

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped, Mapper, QueryContext

    from aredun.tables.column_types import TagEntity

# The row of a value: models are made of what is here, so nothing here knows them.
ValueT = TypeVar("ValueT")

_BACKEND = "_aredun_backend"
MAX_CELL_LENGTH = 200


class EntityOperations(Protocol):
    """The operations that models hand over to, and that return models: `backend.entities`."""

    async def get_preview(self, value_hash: str) -> Any:
        """Return what a value looks like (`PreviewValue` when it is too large); runs nothing of it."""

    async def get_value_parsed(self, value_hash: str) -> Any:
        """Return a value or a preview of what cannot be read, None when there is no such value."""

    async def get_holding_values(self, value_hash: str) -> list[Any]:
        """Return the value of that hash, then the values that it is a subvalue of."""

    async def get_children(self, call_hash: str) -> list[Any]:
        """Return the calls that a call made, by `call_order`, repeats included."""

    async def get_parents(self, call_hash: str) -> list[Any]:
        """Return the calls that made a call, by `call_order`, repeats included."""

    async def get_args_display(self, call_hash: str) -> str:
        """Return a call's arguments as one text of at most 100 characters."""

    async def get_job_call_node(self, job_id: str) -> Any:
        """Return the call that a job led to, if there is one."""

    async def get_job_task(self, job_id: str) -> Any:
        """Return the task of the call that a job led to, if there is one."""

    async def get_context(self, call_hash: str) -> dict[str, Any]:
        """Return the context that a call was recorded with."""

    async def get_entity(self, entity_type: TagEntity, entity_id: str) -> Any:
        """Return the entity of a tag; raises when it is not there."""


class RedunSession(AsyncSession):
    """An `AsyncSession` that knows its backend (mirrors redun's `RedunSession`).

    Parameters
    ----------
    backend : RedunBackendDb
        The backend; the models that the session loads find it as `session.info["backend"]`.
    *args, **kwargs : Any
        As for `AsyncSession`; `expire_on_commit` is False unless given.
    """

    def __init__(self, backend: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("expire_on_commit", False)
        super().__init__(*args, info={**kwargs.pop("info", {}), "backend": backend}, **kwargs)

    async def __aexit__(self, *_: object) -> None:
        """Close the session; whoever is cancelled meanwhile waits until its connection is free."""
        cancelled = await finish(self.close())
        if cancelled is not None:
            raise cancelled

    @property
    def backend(self) -> Any:
        """The backend that the session belongs to."""
        return self.sync_session.info["backend"]


def remember_backend(base: type[Any]) -> None:
    """Have every object that is loaded remember its backend, so that it outlives its short session."""

    @event.listens_for(base, "load", propagate=True)
    def remember(target: Any, context: QueryContext) -> None:
        backend = context.session.info.get("backend")
        if backend is not None:
            set_backend(target, backend)


def set_backend(model: Any, backend: Any) -> None:
    """Have an object hand over to the operations of a backend."""
    model.__dict__[_BACKEND] = backend


def entities(model: Any) -> EntityOperations:
    """Return the operations of the backend that `model` belongs to.

    Raises
    ------
    RedunDatabaseError
        When the object was neither loaded by a backend nor added to one of its sessions.
    """
    backend = model.__dict__.get(_BACKEND)
    if backend is None:
        session = object_session(model)
        backend = session.info.get("backend") if session is not None else None
    if backend is None:
        raise RedunDatabaseError(
            f"{model!r} belongs to no backend: load it through a session of a loaded RedunBackendDb"
        )
    return cast("EntityOperations", backend.entities)


def show(model: Any, column: str, length: int | None = None) -> str:
    """Return a column's value as text, cut to `length` characters; "?" when it is not loaded."""
    text = str(model.__dict__.get(column, "?"))
    if length is None or len(text) <= length:
        return text
    return text[:length] if length <= 8 else text[: length - 3] + "..."


class WithStoredValue:
    """A row that names a stored value by `value_hash`."""

    if TYPE_CHECKING:
        value_hash: Mapped[str]

    async def value_parsed(self) -> Any:
        """Return the value, or a preview of what cannot be read."""
        return await entities(self).get_value_parsed(self.value_hash)


class WithHolders(Generic[ValueT]):
    """A file or a handle: a value of its own, and maybe a part of other values."""

    if TYPE_CHECKING:
        value_hash: Mapped[str]

    async def values(self) -> list[ValueT]:
        """Return its own value, then the values that hold it."""
        return await entities(self).get_holding_values(self.value_hash)


class WithStatus:
    """A status that is derived once and kept."""

    __allow_unmapped__ = True
    _status: str | None = None

    if TYPE_CHECKING:
        __mapper__: ClassVar[Mapper[Any]]

    def _load_status(self) -> str:
        raise AssertionError(f"{type(self).__name__} derives no status")

    def _keep_status(self, status: str) -> str:
        self._status = status
        return status

    @property
    def status(self) -> str:
        """RUNNING, FAILED, CACHED or DONE; needs the job, its call node and that one's value to be loaded."""
        return self._status or self._keep_status(self._load_status())

    @property
    def status_display(self) -> str:
        """The status as tables show it."""
        return "RUN " if self.status == "RUNNING" else self.status

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what is loaded, nothing else is read."""
        names = [name for name in type(self).__mapper__.columns.keys() if name in self.__dict__]
        shown = {name: show(self, name, MAX_CELL_LENGTH) for name in names}
        if self._status:
            shown["status"] = self._status
        rows = "".join(
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in shown.items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


class PreviewValue:
    """What stands for a value that is too large, or that cannot be read (mirrors redun's `PreviewValue`).

    Parameters
    ----------
    value : Value
        The value's row.
    size : int
        Size of its data in bytes; -1 where it was not looked at.
    """

    def __init__(self, value: Any, size: int) -> None:
        self.value = value
        self.size = size

    def __repr__(self) -> str:
        return f"{self.value.type}(hash={self.value.value_hash[:8]}, size={self.size})"
