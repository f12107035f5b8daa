"""Documents, text and JSON of a dataflow as async generators, with previews and jobs fetched in bulk."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterable
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any

from aredun.dataflow.dom import iter_dataflow_dom
from aredun.dataflow.nodes import get_dataflow_call_node
from aredun.dataflow.render import CallJob, display_section, serialize_section, trim_string
from aredun.dataflow.statements import make_jobs_statement
from aredun.storage.graph import get_graph_dialect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.nodes import DataflowEdge
    from aredun.dataflow.sections import DataflowDOM, DataflowSectionDOM

# The first section is shown at once; after that more and more of them share their statements.
FIRST_BATCH = 4
LAST_BATCH = 1_000
_DOM_CHUNK = 200


async def make_dataflow_dom(
    dataflow_edges: AsyncIterable[DataflowEdge] | Iterable[DataflowEdge], new_varname: str = "value"
) -> AsyncGenerator[DataflowSectionDOM, None]:
    """Make the documents of all sections of a dataflow.

    Mirrors redun's `make_dataflow_dom`.

    Parameters
    ----------
    dataflow_edges : async iterable or iterable of DataflowEdge
        The edges of an upstream walk; all of them are read first, since the last one may change the first
        section.
    new_varname : str
        Name of the node that the walk began at.

    Yields
    ------
    DataflowSectionDOM
        Documents in the order in which they are shown.
    """
    sections = iter_dataflow_dom([edge async for edge in _iterate(dataflow_edges)], new_varname)
    # Many edges are a lot of work, and all of it comes before the first section.
    while chunk := await asyncio.to_thread(lambda: list(islice(sections, _DOM_CHUNK))):
        for dom in chunk:
            yield dom


async def display_dataflow(backend: RedunBackendDb, dom: DataflowDOM) -> AsyncGenerator[str, None]:
    """Write the documents of a dataflow as text.

    Mirrors redun's `display_dataflow`.

    Parameters
    ----------
    backend : RedunBackendDb
        Where previews of the values come from; nothing is unpickled for real.
    dom : async iterable or iterable of DataflowSectionDOM
        The documents.

    Yields
    ------
    str
        Lines without line ends, an empty one after every section.
    """
    async with aclosing(_in_batches(backend, dom)) as batches:
        async for batch, previews in batches:
            for item in batch:
                for line in display_section(item, previews):
                    yield line
                yield ""


class DataflowText(str):
    """A dataflow as text, which a notebook shows line by line."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


async def render_dataflow(
    backend: RedunBackendDb,
    dataflow_edges: AsyncIterable[DataflowEdge] | Iterable[DataflowEdge],
    new_varname: str = "value",
) -> DataflowText:
    """Return a whole dataflow as text, for a notebook or `print`.

    Parameters
    ----------
    backend : RedunBackendDb
        Where previews of the values come from; nothing is unpickled for real.
    dataflow_edges : async iterable or iterable of DataflowEdge
        The edges of an upstream walk, as `walk_dataflow` yields them.
    new_varname : str
        Name of the node that the walk began at.

    Returns
    -------
    DataflowText
        A `str` that a notebook shows as it stands.
    """
    lines = display_dataflow(backend, make_dataflow_dom(dataflow_edges, new_varname))
    return DataflowText("\n".join([line async for line in lines]))


async def serialize_dataflow(
    backend: RedunBackendDb, dom: DataflowDOM
) -> AsyncGenerator[dict[str, Any], None]:
    """Write the documents of a dataflow as JSON.

    Mirrors redun's `serialize_dataflow`.

    Parameters
    ----------
    backend : RedunBackendDb
        Where previews of the values and the jobs of the calls come from.
    dom : async iterable or iterable of DataflowSectionDOM
        The documents.

    Yields
    ------
    dict
        One object per section.
    """
    async with aclosing(_in_batches(backend, dom)) as batches:
        async for batch, previews in batches:
            nodes = [item.assign.node for item in batch]
            nodes += [routing.node for item in batch for routing in item.routing]
            calls = [call for call in map(get_dataflow_call_node, nodes) if call is not None]
            jobs = await get_latest_jobs(backend, {call.call_hash for call in calls})
            for item in batch:
                yield serialize_section(item, previews, jobs)


async def _get_preview_texts(backend: RedunBackendDb, value_hashes: Collection[str]) -> dict[str, str]:
    """Return the recorded ones of some values as they are shown, by hash, at most 200 characters each."""
    if not value_hashes:
        return {}
    previews = await backend.get_previews(sorted(value_hashes))
    # A preview may be a long list: writing it out is work.
    return await asyncio.to_thread(
        lambda: {value_hash: trim_string(repr(preview)) for value_hash, preview in previews.items()}
    )


async def get_latest_jobs(backend: RedunBackendDb, call_hashes: Collection[str]) -> dict[str, CallJob]:
    """Return the job of every call that started last, by call; of jobs that started together that of the
    least id."""
    if not call_hashes:
        return {}
    dialect = get_graph_dialect(backend.database.dialect_name)
    statement = make_jobs_statement(dialect)

    async def operation(session: AsyncSession) -> dict[str, CallJob]:
        found = await session.execute(statement, dialect.bind_strings("calls", sorted(call_hashes)))
        return {call_hash: CallJob(job_id, execution_id) for call_hash, job_id, execution_id in found}

    return await backend.database.read(operation)


async def _in_batches(
    backend: RedunBackendDb, dom: DataflowDOM
) -> AsyncGenerator[tuple[list[DataflowSectionDOM], dict[str, str]], None]:
    """Yield sections in batches that grow, with the previews of their values."""
    size = FIRST_BATCH
    async with aclosing(_iterate(dom)) as items:
        while batch := [item for _ in range(size) if (item := await anext(items, None)) is not None]:
            values = {arg.value.value_hash for item in batch for arg in item.args}
            yield batch, await _get_preview_texts(backend, values)
            size = min(size * 4, LAST_BATCH)


async def _iterate(items: AsyncIterable[Any] | Iterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
