"""The routes that a drawing of a dataflow needs: where its nodes stand, and what is written on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

from aredun import models
from aredun.dataflow.display import get_latest_jobs
from aredun.formats.describe import cut_text
from aredun.formats.statuses import get_job_status
from aredun.search.call_texts import get_brief_arguments
from aredun.server import graph_schemas, records
from aredun.server.answers import make_problem, respond, respond_list
from aredun.server.api import PROBLEMS, Backend
from aredun.server.finding import check_id
from aredun.server.layout import LayoutUnavailableError
from aredun.storage.reads import read_rows
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Collection

    from aredun.backend import RedunBackendDb

MAX_LABELS = 250
_MAX_PREVIEW = 200

router = APIRouter(prefix="/api", responses=PROBLEMS, tags=["drawing"])

Hashes = Annotated[list[str], Query(min_length=1, max_length=MAX_LABELS, description="Whole hashes.")]


@router.post("/layout", response_model=graph_schemas.GraphLayout)
async def lay_out(request: Request, graph: graph_schemas.GraphShape) -> Response:
    """Lay a graph out in layers from left to right: every edge leads to a later layer, the nodes of a layer
    stand a row apart or more.
    """
    try:
        return respond(await request.app.state.layouts.lay_out(graph.nodes, graph.edges))
    except LayoutUnavailableError as error:
        return make_problem(503, str(error), "unavailable")


@router.get("/call-labels", response_model=list[graph_schemas.CallLabel])
async def list_call_labels(backend: Backend, call_hash: Hashes, arguments: bool = True) -> Response:
    """Get the arguments and the statuses of many calls; those without arguments or job are left out."""
    calls = sorted({check_id(text) for text in call_hash})
    texts: dict[str, str] = {}
    if arguments:
        texts = await get_brief_arguments(backend, calls)
    statuses = await get_statuses(backend, calls)
    labels = []
    for call in calls:
        job_id, status = statuses.get(call, (None, None))
        if job_id is not None or call in texts:
            text = cut_text(texts.get(call, ""), _MAX_PREVIEW) if arguments else None
            labels.append(
                graph_schemas.CallLabel(call_hash=call, arguments=text, status=status, job_id=job_id)
            )
    return respond_list(labels)


@router.get("/value-labels", response_model=list[graph_schemas.ValueLabel])
async def list_value_labels(backend: Backend, value_hash: Hashes) -> Response:
    """Get what many values are known by; those that are not recorded are left out."""
    found = await records.load_values(backend, [check_id(text) for text in value_hash])
    return respond_list(
        [
            graph_schemas.ValueLabel(
                value_hash=key,
                path=value.path,
                preview=None if value.preview is None else cut_text(value.preview, _MAX_PREVIEW),
                value_type=value.value_type,
            )
            for key, value in found.items()
        ]
    )


async def get_statuses(backend: RedunBackendDb, calls: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the latest job of every call that has one, with its status."""
    latest = await get_latest_jobs(backend, calls)
    job, call, value = models.Job, models.CallNode, models.Value
    query = (
        sa.select(job.call_hash, job.id, job.end_time, job.cached, value.type)
        .outerjoin(call, call.call_hash == job.call_hash)
        .outerjoin(value, value.value_hash == call.value_hash)
        .where(in_array(job.id, sorted(found.job_id for found in latest.values())))
    )
    rows = await read_rows(backend.database, query) if latest else []
    return {row[0]: (row[1], get_job_status(row[2], row[3], row[4])) for row in rows}
