"""What the routes take: the backend, ids and texts that a database can look for, the page of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, Field

from aredun.errors import UsageError
from aredun.formats.tag_syntax import is_storable_text
from aredun.search.identify import explain_unknown, infer_id
from aredun.server.records import make_records
from aredun.server.schemas import BasePage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb
    from aredun.query import CallGraphQuery

PageT = TypeVar("PageT", bound=BasePage)

DEFAULT_PAGE = 50
MAX_ID_LENGTH = 2_048


def get_backend(request: Request) -> RedunBackendDb:
    """Return the backend of the app that a request came to."""
    backend: RedunBackendDb = request.app.state.backend
    return backend


def check_id(text: str) -> str:
    """Return an id or another text of a request, if a database can look for it.

    Raises
    ------
    UsageError
        It is empty, too long, or holds a NUL or half a character (a lone surrogate).
    """
    if not text.strip() or len(text) > MAX_ID_LENGTH or not is_storable_text(text):
        raise UsageError(f"an id or a name has 1 to {MAX_ID_LENGTH} whole characters, none of them NUL")
    return text


async def find_anything(backend: RedunBackendDb, record_id: str) -> Any:
    """Return what `infer_id` takes an id for: a record, or (file, job, how the job had it).

    Raises
    ------
    UnknownIdError
        It fits nothing.
    """
    record = await infer_id(backend, record_id)
    if record is None:
        raise await explain_unknown(backend, record_id)
    return record


def narrow(query: CallGraphQuery[Any], **filters: Sequence[Any]) -> CallGraphQuery[Any]:
    """Return a query with those filters, by the names of its methods, that a request gives something for."""
    for name, chosen in filters.items():
        if chosen:
            query = getattr(query, name)(chosen)
    return query


class Paging:
    """Which page a request asks for."""

    def __init__(
        self,
        request: Request,
        cursor: Annotated[
            str | None, Query(max_length=4_096, description="`cursor` of the page before.")
        ] = None,
        limit: Annotated[
            int, Query(ge=1, le=500, description="Records on the page.", examples=[50])
        ] = DEFAULT_PAGE,
    ) -> None:
        self._backend = get_backend(request)
        self.cursor = cursor
        self.limit = min(limit, request.app.state.settings.max_page_size)

    async def answer(self, query: CallGraphQuery[Any], model: type[PageT], **filters: Sequence[Any]) -> PageT:
        """Return the page of a query with those filters that are given."""
        found = await narrow(query, **filters).page_after(self.cursor, self.limit)
        items = await make_records(self._backend, found.records)
        return model.model_validate({"items": items, "cursor": found.cursor})


Backend = Annotated[Any, Depends(get_backend)]
Page = Annotated[Paging, Depends()]
# What a database can look for: a text, one as long as an id or a name may be, one as long as a part is.
Id = Annotated[str, AfterValidator(check_id)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(check_id)]
Part = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_id)]
RecordId = Annotated[Name, Path(description="The beginning of an id.", examples=["5a4d7e0a"])]
Texts = Annotated[list[Id], Query(max_length=50)]
