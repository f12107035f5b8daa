"""The routes that a drawing of a dataflow needs: where its nodes stand, and what is written on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from aredun.dataflow.display import get_latest_jobs
from aredun.formats.describe import cut_text
from aredun.search.call_texts import get_brief_arguments
from aredun.search.statuses import get_job_statuses
from aredun.server.parameters import Backend, Id
from aredun.server.records import load_values
from aredun.server.schemas import Answer, Text, example, fill

# What takes longer than about half a second to lay out is better grouped first.
MAX_NODES = 2_000
MAX_EDGES = 4_000
MAX_LABELS = 250
_MAX_PREVIEW = 200

router = APIRouter(prefix="/api", tags=["drawing"])

Hashes = Annotated[list[Id], Query(min_length=1, max_length=MAX_LABELS, description="Whole hashes.")]
Place = tuple[float, float]


class GraphShape(Answer):
    """A graph to lay out: nodes are numbers from 0."""

    model_config = example(nodes=3, edges=[[0, 1], [1, 2], [0, 2]])

    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    edges: Annotated[list[tuple[int, int]], Field(max_length=MAX_EDGES)]


class GraphLayout(Answer):
    """Where the nodes of a graph stand."""

    model_config = example(places=[[0, 0.5], [1, 0], [2, 0.5]], routes=[[2, [[1, 1]]]])

    places: list[Place] = Field(description="Of every node its layer, from the left, and its row.")
    routes: list[tuple[int, list[Place]]] = Field(
        description="The numbers of the edges that are longer than a layer, with the places that they pass."
    )


class CallLabel(Answer):
    """What a call is known by in a drawing."""

    model_config = example(arguments="'a.bam', min=20", status="DONE")

    call_hash: Text
    arguments: Text | None = Field(description="Short; null where they were not asked for.")
    status: Text | None = Field(description="Of its latest job; null where none is recorded.")
    job_id: Text | None


class ValueLabel(Answer):
    """What a value is known by in a drawing."""

    model_config = example(path="sample.bam", preview=None, value_type="redun.File")

    value_hash: Text
    path: Text | None = Field(description="Of a file.")
    preview: Text | None = Field(description="Cut at 200 characters.")
    value_type: Text


@router.post("/layout")
async def lay_out(request: Request, graph: GraphShape) -> GraphLayout:
    """Lay a graph out in layers from left to right: every edge leads to a later layer, the nodes of a layer
    stand a row apart or more.
    """
    return GraphLayout.model_validate_json(await request.app.state.layouts.lay_out(graph.nodes, graph.edges))


@router.get("/call-labels")
async def list_call_labels(backend: Backend, call_hash: Hashes, arguments: bool = True) -> list[CallLabel]:
    """Get the arguments and the statuses of many calls; those without arguments or job are left out."""
    calls = sorted(set(call_hash))
    texts = await get_brief_arguments(backend, calls) if arguments else {}
    jobs = {call: job.job_id for call, job in (await get_latest_jobs(backend, calls)).items()}
    statuses = await get_job_statuses(backend, jobs.values())
    return [
        CallLabel(
            call_hash=call,
            arguments=cut_text(texts.get(call, ""), _MAX_PREVIEW) if arguments else None,
            status=statuses.get(jobs.get(call)),
            job_id=jobs.get(call),
        )
        for call in calls
        if call in jobs or call in texts
    ]


@router.get("/value-labels")
async def list_value_labels(backend: Backend, value_hash: Hashes) -> list[ValueLabel]:
    """Get what many values are known by; those that are not recorded are left out."""
    found = await load_values(backend, value_hash)
    return [
        fill(ValueLabel, value, preview=value.preview and cut_text(value.preview, _MAX_PREVIEW))
        for value in found.values()
    ]
