"""What the routes for drawing a dataflow take and answer with."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from aredun.server.schemas import HASH, ID, Text, example

# What takes longer than about half a second to lay out is better grouped first.
MAX_NODES = 2_000
MAX_EDGES = 4_000

Place = tuple[float, float]


class GraphShape(BaseModel):
    """A graph to lay out: nodes are numbers from 0."""

    model_config = example(nodes=3, edges=[[0, 1], [1, 2], [0, 2]])

    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    edges: Annotated[list[tuple[int, int]], Field(max_length=MAX_EDGES)]


class GraphLayout(BaseModel):
    """Where the nodes of a graph stand."""

    model_config = example(places=[[0, 0.5], [1, 0], [2, 0.5]], routes=[[2, [[1, 1]]]])

    places: list[Place] = Field(description="Of every node its layer, from the left, and its row.")
    routes: list[tuple[int, list[Place]]] = Field(
        description="The numbers of the edges that are longer than a layer, with the places that they pass."
    )


class CallLabel(BaseModel):
    """What a call is known by in a drawing."""

    model_config = example(call_hash=HASH, arguments="'a.bam', min=20", status="DONE", job_id=ID)

    call_hash: Text
    arguments: Text | None = Field(description="Short; null where they were not asked for.")
    status: Text | None = Field(description="Of its latest job; null where none is recorded.")
    job_id: Text | None


class ValueLabel(BaseModel):
    """What a value is known by in a drawing."""

    model_config = example(value_hash=HASH, path="sample.bam", preview=None, value_type="redun.File")

    value_hash: Text
    path: Text | None = Field(description="Of a file.")
    preview: Text | None = Field(description="Cut at 200 characters.")
    value_type: Text
