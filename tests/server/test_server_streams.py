"""Dataflow over websockets: the walk's edges, at the client's pace, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from aredun.dataflow import (
    describe_edge,
    describe_node,
    make_dataflow_dom,
    serialize_dataflow,
    walk_dataflow,
    walk_downstream,
)
from aredun.dataflow.load import Loader
from aredun.dataflow.nodes import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    DataflowEdge,
    DataflowNode,
    TaskRef,
    ValueRef,
)
from aredun.server.answers import dump
from tests.support.dataflow import make_chains, make_hash
from tests.support.server import serve
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb
    from tests.support.server import Served


@pytest.fixture
def merged(redun_backend: Any) -> str:
    """The result of a workflow of 600 calls: about 3,000 edges upstream."""
    graph, value_hash = make_chains(20, 30)
    graph.insert(redun_backend)
    return value_hash


@pytest.fixture
async def served(merged: str, backend: RedunBackendDb) -> AsyncIterator[Served]:
    """A server of that workflow."""
    async with serve(backend) as served:
        yield served


async def collect_edges(walk: Any) -> list[dict[str, Any]]:
    """Return the messages that a walk's edges must make."""
    return [
        {
            "type": "edge",
            "seq": seq,
            "src": describe_node(edge.src),
            "dest": None if edge.dest is None else describe_node(edge.dest),
        }
        for seq, edge in enumerate([edge async for edge in walk], 1)
    ]


async def test_upstream_edges_sections_and_end(served: Served, backend: RedunBackendDb, merged: str) -> None:
    """All edges in the walk's order, then the sections, then the end; in batches the same."""
    start = ValueRef(merged)
    expected = await collect_edges(walk_dataflow(backend, start))
    dom = make_dataflow_dom(walk_dataflow(backend, start))
    expected += [{"type": "section", **section} async for section in serialize_dataflow(backend, dom)]
    expected.append({"type": "end", "edges": sum(message["type"] == "edge" for message in expected)})
    assert await served.receive_all(f"/ws/dataflow/{merged[:12]}") == expected
    assert await served.receive_all(f"/ws/dataflow/{merged}?batch=500") == expected


async def test_downstream(served: Served, backend: RedunBackendDb) -> None:
    """What was derived from a value, without sections."""
    value_hash = make_hash("value 'input 3'")
    expected = await collect_edges(walk_downstream(backend, ValueRef(value_hash)))
    assert len(expected) > 50
    expected.append({"type": "end", "edges": len(expected)})
    path = f"/ws/dataflow/{value_hash}?direction=downstream&batch=100"
    assert await served.receive_all(path) == expected


async def test_resume_after_a_number(served: Served, merged: str) -> None:
    """A client that comes back with the last number gets the rest, numbered on."""
    whole = await served.receive_all(f"/ws/dataflow/{merged}?batch=100")
    rest = await served.receive_all(f"/ws/dataflow/{merged}?batch=100&after=1234")
    assert rest[0]["seq"] == 1235
    assert rest == whole[1234:]


async def test_bounds(served: Served, merged: str) -> None:
    """A client may ask for the first edges only."""
    messages = await served.receive_all(f"/ws/dataflow/{merged}?max_edges=7&sections=0")
    assert [message.get("seq") for message in messages] == [1, 2, 3, 4, 5, 6, 7, None]
    assert messages[-1] == {"type": "end", "edges": 7, "is_cut": True}


async def test_a_walk_that_ends_at_its_bound_is_whole(served: Served, merged: str) -> None:
    """Only a walk that has more edges than were asked for is cut."""
    edges = (await served.receive_all(f"/ws/dataflow/{merged}?batch=500&sections=0"))[-1]["edges"]
    messages = await served.receive_all(f"/ws/dataflow/{merged}?batch=500&sections=0&max_edges={edges}")
    assert messages[-1] == {"type": "end", "edges": edges}
    messages = await served.receive_all(f"/ws/dataflow/{merged}?batch=500&sections=0&max_edges={edges - 1}")
    assert messages[-1] == {"type": "end", "edges": edges - 1, "is_cut": True}


async def test_batches_are_filled(served: Served, merged: str) -> None:
    """The first edge leaves alone; after it few large messages carry the edges."""
    sizes = []
    async with served.connect(f"/ws/dataflow/{merged}?sections=0&batch=500") as websocket:
        async for text in websocket:
            sizes.append(len(json.loads(text)))
    assert sum(sizes) > 3_000
    assert sizes[0] == 1
    assert max(sizes) <= 500
    assert len(sizes) < 25


async def test_a_bounded_walk_loads_little_more(
    backend: RedunBackendDb, merged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many streams at once must not each hold what their clients have not asked for."""
    loaded = 0
    load_edges = Loader.load_edges

    async def count_nodes(self: Loader, session: Any, wanted: Any) -> Any:
        nonlocal loaded
        loaded += sum(map(len, wanted.values()))
        return await load_edges(self, session, wanted)

    monkeypatch.setattr(Loader, "load_edges", count_nodes)
    edges = [edge async for edge in walk_dataflow(backend, ValueRef(merged), max_edges=1_500)]
    assert len(edges) == 1_500
    assert loaded < 2_250


def test_edges_are_written_as_they_are_described() -> None:
    """Whatever their hashes, tasks and arguments are called, and however often they come."""
    seq = 0
    for text in ("5a4d7e0a", 'q"uote', "line\n\x00\x1b[31m", "</script>", "\ud800", "\u00e9", ""):
        call = CallNodeRef(text, TaskRef("1" + text, text, text), ValueRef(text))
        argument = ArgumentRef(text, call, ValueRef(text), None, text)
        nodes: list[DataflowNode] = [
            call,
            ValueRef(text),
            ArgumentValue(argument, ValueRef(text)),
            CallNodeValue(call, ValueRef(text)),
        ]
        for src in nodes:
            for dest in (*nodes, None):
                seq += 1
                expected = {"type": "edge", "seq": seq, "src": describe_node(src)}
                expected["dest"] = None if dest is None else describe_node(dest)
                assert json.loads(dump(describe_edge(seq, DataflowEdge(src, dest)))) == expected


BAD_REQUESTS = [
    ("nosuchid", "not_found", "nosuchid"),
    ("%00", "bad_request", "NUL"),
    ("~99", "bad_request", "~99"),
    ("-?direction=sideways", "bad_request", "upstream, downstream or inside"),
    ("-?batch=-1", "bad_request", "batch"),
    ("-?after=1e9", "bad_request", "after"),
]


async def test_bad_requests(served: Served) -> None:
    """One message says what is wrong."""
    for path, error, text in BAD_REQUESTS:
        [message] = await served.receive_all(f"/ws/dataflow/{path}")
        assert (message["type"], message["error"]) == ("error", error)
        assert text in message["message"]


async def test_closing_frees_the_connection(served: Served, backend: RedunBackendDb, merged: str) -> None:
    """A client that goes away in the middle leaves nothing behind, not even until the closing is answered."""
    state = served.app.state
    for number in range(5):
        websocket = await served.connect(f"/ws/dataflow/{merged}?sections=0")
        for _ in range(1 + 3 * number):
            await websocket.recv()
        closing = asyncio.create_task(websocket.close())
        while state.streams.count or backend.database.checked_out:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)
        websocket.transport.abort()
        await closing


async def test_a_slow_client_costs_others_nothing(backend: RedunBackendDb, merged: str) -> None:
    """A client that does not read stops its walk, which then holds no connection."""
    async with serve(backend, send_buffer=16_384) as served:
        receiver = socket.socket()
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        receiver.connect(("127.0.0.1", served.port))
        slow = served.connect(f"/ws/dataflow/{merged}?sections=0", max_queue=1, sock=receiver)
        async with slow as websocket:
            await websocket.recv()
            websocket.transport.pause_reading()
            metric = served.app.state.metrics.edges._value
            before = -1.0
            while before != metric.get():
                before = metric.get()
                await asyncio.sleep(0.3)
            assert before < 2_000
            await until_connections_return(backend.database)
            messages = await served.receive_all(f"/ws/dataflow/{merged}?batch=500&sections=0")
            assert messages[-1]["type"] == "end"
            websocket.transport.resume_reading()
            seqs = [1] + [json.loads(text).get("seq") async for text in websocket]
        assert seqs[:-1] == list(range(1, len(seqs)))


async def test_many_streams_at_once(served: Served, backend: RedunBackendDb, merged: str) -> None:
    """200 clients: nothing is lost or out of order."""

    async def count() -> int:
        seqs: list[int] = []
        async with served.connect(f"/ws/dataflow/{merged}?batch=500&max_edges=100&sections=0") as websocket:
            async for text in websocket:
                seqs.extend(message["seq"] for message in json.loads(text) if message["type"] == "edge")
        assert seqs == list(range(1, 101))
        return len(seqs)

    counts = await asyncio.gather(*(count() for _ in range(200)))
    assert sum(counts) == 20_000
    await until_connections_return(backend.database)


async def test_shutdown_ends_streams_with_a_code(backend: RedunBackendDb, merged: str) -> None:
    """Clients are told that the server goes away."""
    async with serve(backend) as served:
        websocket = await served.connect("/ws/executions")
        await websocket.recv()
        await served.app.state.close()
        await websocket.wait_closed()
        assert websocket.close_code == 1001
