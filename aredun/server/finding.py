"""Finding what an id of a request stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aredun import models
from aredun.dataflow.starts import find_call, get_start
from aredun.errors import UnknownIdError, UsageError
from aredun.formats.spelling import spell_id
from aredun.formats.tag_syntax import is_storable_text
from aredun.search.identify import (
    explain_unknown,
    find_one,
    get_key,
    infer_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.starts import Start

MAX_ID_LENGTH = 2_048
_WHOLE_ID = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f-]{36}")


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


async def find_record(backend: RedunBackendDb, record_type: str, record_id: str) -> Any:
    """Return the only record of a type whose id begins with a text.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    record_type : str
        Of `CallGraphQuery.MODEL_NAMES`.
    record_id : str
        The beginning of an id; of executions also `-` and `~2`, of tasks also the name.

    Raises
    ------
    UnknownIdError, AmbiguousIdError
        No record fits, or several do.
    """
    return await find_one(backend, record_type, check_id(record_id))


async def find_anything(backend: RedunBackendDb, record_id: str) -> Any:
    """Return what `infer_id` takes an id for: a record, or (file, job, how the job had it).

    Raises
    ------
    UnknownIdError
        It fits nothing.
    """
    record = await infer_id(backend, check_id(record_id))
    if record is None:
        raise await explain_unknown(backend, record_id)
    return record


async def find_ids(backend: RedunBackendDb, record_type: str, texts: Sequence[str]) -> list[str]:
    """Return the whole ids of the records of a type that filters are about.

    Whole ones are handed on as they are: that nothing is recorded under one is an empty answer.

    Raises
    ------
    UnknownIdError, AmbiguousIdError
        No record fits the beginning of an id, or several do.
    """
    found: list[str] = []
    for text in texts:
        if _WHOLE_ID.fullmatch(text.strip()):
            found += spell_id(text)
        else:
            found.append(get_key(await find_record(backend, record_type, text)))
    return found


async def find_start(backend: RedunBackendDb, record_id: str, *, downstream: bool) -> Start:
    """Return where the dataflow of an id begins.

    A call is walked from itself; an execution and a job stand for their result (`aredun.dataflow.starts`).

    Raises
    ------
    UnknownIdError
        The id fits nothing, or a job that has led to no call yet.
    """
    record = await find_anything(backend, record_id)
    return await get_start_of(backend, record, downstream=downstream)


async def get_start_of(backend: RedunBackendDb, record: Any, *, downstream: bool) -> Start:
    """Return where the dataflow of a record begins.

    Raises
    ------
    UnknownIdError
        It has none, or has led to no call yet.
    """
    is_call = isinstance(record, models.CallNode)
    try:
        # "Downstream" begins at the call itself, which is what is wanted in both directions.
        return await get_start(backend, record, downstream=downstream or is_call)
    except UsageError as error:
        raise UnknownIdError(str(error)) from error


async def find_inside(backend: RedunBackendDb, record_id: str) -> Any:
    """Return the call whose inside an id stands for; a job or an execution that has led to none yet itself.

    Raises
    ------
    UnknownIdError
        The id fits nothing, or nothing that has an inside.
    """
    record = await find_anything(backend, record_id)
    is_run = isinstance(record, models.Job | models.Execution)
    if is_run and await find_call(backend, record) is None:
        return record
    return (await get_start_of(backend, record, downstream=True)).node
