"""The routes that a drawing of a dataflow needs: where its nodes stand, and what is written on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aredun.dataflow.display import get_latest_jobs
from aredun.formats.describe import cut_text
from aredun.search.call_texts import get_brief_arguments
from aredun.search.statuses import get_job_statuses
from aredun.server import records
from aredun.server.answers import make_problem, respond
from aredun.server.api import PROBLEMS, Backend
from aredun.server.finding import check_id
from aredun.server.graph_schemas import CallLabel, GraphLayout, GraphShape, ValueLabel
from aredun.server.layout import LayoutUnavailableError
from aredun.server.schemas import fill

MAX_LABELS = 250
_MAX_PREVIEW = 200

router = APIRouter(prefix="/api", responses=PROBLEMS, tags=["drawing"])

Hashes = Annotated[list[str], Query(min_length=1, max_length=MAX_LABELS, description="Whole hashes.")]


@router.post("/layout", response_model=GraphLayout)
async def lay_out(request: Request, graph: GraphShape) -> Response:
    """Lay a graph out in layers from left to right: every edge leads to a later layer, the nodes of a layer
    stand a row apart or more.
    """
    try:
        return respond(await request.app.state.layouts.lay_out(graph.nodes, graph.edges))
    except LayoutUnavailableError as error:
        return make_problem(503, str(error), "unavailable")


@router.get("/call-labels", response_model=list[CallLabel])
async def list_call_labels(backend: Backend, call_hash: Hashes, arguments: bool = True) -> Response:
    """Get the arguments and the statuses of many calls; those without arguments or job are left out."""
    calls = sorted({check_id(text) for text in call_hash})
    texts = await get_brief_arguments(backend, calls) if arguments else {}
    latest = await get_latest_jobs(backend, calls)
    statuses = await get_job_statuses(backend, [job.job_id for job in latest.values()])
    labels = []
    for call in calls:
        job_id = latest[call].job_id if call in latest else None
        if job_id is not None or call in texts:
            text = cut_text(texts.get(call, ""), _MAX_PREVIEW) if arguments else None
            status = statuses.get(job_id)
            labels.append(CallLabel(call_hash=call, arguments=text, status=status, job_id=job_id))
    return respond(labels)


@router.get("/value-labels", response_model=list[ValueLabel])
async def list_value_labels(backend: Backend, value_hash: Hashes) -> Response:
    """Get what many values are known by; those that are not recorded are left out."""
    found = await records.load_values(backend, [check_id(text) for text in value_hash])
    return respond(
        [
            fill(ValueLabel, value, preview=value.preview and cut_text(value.preview, _MAX_PREVIEW))
            for value in found.values()
        ]
    )
