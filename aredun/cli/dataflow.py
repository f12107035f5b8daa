"""`aredun dataflow ID|PATH`: where a value came from, or what was derived from it."""

from __future__ import annotations

import json
import shutil
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.cli.common import open_backend
from aredun.cli.tables import clean_line
from aredun.dataflow import (
    describe_edge,
    display_dataflow,
    make_dataflow_dom,
    serialize_dataflow,
    walk_dataflow,
    walk_downstream,
)
from aredun.dataflow.pictures import DOT, MERMAID, Picture, get_label
from aredun.dataflow.starts import get_start
from aredun.errors import UsageError
from aredun.query import infer_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.dataflow import DataflowEdge
    from aredun.dataflow.starts import Start


async def run(args: argparse.Namespace, console: Console) -> None:
    """Write the dataflow of one record."""
    if args.format == "svg":
        find_graphviz()
    async with open_backend(args) as backend:
        record = await infer_id(backend, args.id, include_files=True, required=True)
        start = await get_start(backend, record, downstream=args.downstream)
        walk = walk_downstream if args.downstream else walk_dataflow
        edges = walk(backend, start.node, max_depth=args.depth, max_edges=args.max_edges)
        async with aclosing(edges), aclosing(write(backend, start, edges, args)) as lines:
            async for line in lines:
                console.print(clean_line(line), soft_wrap=True)


def write(
    backend: RedunBackendDb, start: Start, edges: AsyncGenerator[DataflowEdge, None], args: argparse.Namespace
) -> AsyncGenerator[str, None]:
    """Return the lines of a dataflow, without line ends, in the format asked for.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    start : Start
        Where the walk began.
    edges : async generator of DataflowEdge
        The walk.
    args : argparse.Namespace
        With `format` and `downstream`.
    """
    if args.format in ("text", "json"):
        is_text = args.format == "text"
        if args.downstream:
            return _write_edges(edges) if is_text else _write_json(_describe_edges(edges))
        dom = make_dataflow_dom(edges, new_varname=start.name)
        return display_dataflow(backend, dom) if is_text else _write_json(serialize_dataflow(backend, dom))
    picture = _write_picture(edges, args.format, args.downstream)
    return _render_svg(picture) if args.format == "svg" else picture


async def _write_edges(edges: AsyncGenerator[DataflowEdge, None]) -> AsyncGenerator[str, None]:
    previous: Any = None
    async for src, dest in edges:
        if src != previous:
            previous = src
            yield get_label(src)
        if dest is not None:
            yield f"  --> {get_label(dest)}"


async def _describe_edges(edges: AsyncGenerator[DataflowEdge, None]) -> AsyncGenerator[dict[str, Any], None]:
    seq = 0
    async for edge in edges:
        seq += 1
        yield describe_edge(seq, edge)


async def _write_json(items: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[str, None]:
    last: str | None = None
    async for item in items:
        yield "[" if last is None else f"{last},"
        last = "  " + json.dumps(item)
    yield "[" if last is None else last
    yield "]"


async def _write_picture(
    edges: AsyncGenerator[DataflowEdge, None], language: str, downstream: bool
) -> AsyncGenerator[str, None]:
    picture = Picture(MERMAID if language == "mermaid" else DOT, downstream=downstream)
    yield picture.language.header
    async for edge in edges:
        for line in picture.add(edge):
            yield line
    if picture.language.footer:
        yield picture.language.footer


def find_graphviz() -> str:
    """Return the path of Graphviz's `dot`.

    Raises
    ------
    UsageError
        It is not installed.
    """
    program = shutil.which("dot")
    if program is None:
        raise UsageError(
            "svg needs Graphviz: install it ('apt install graphviz'), or take --format dot or mermaid"
        )
    return program


async def _render_svg(lines: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    program = find_graphviz()
    process = await create_subprocess_exec(program, "-Tsvg", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        source = "\n".join([line async for line in lines])
        output, errors = await process.communicate(source.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        problem = " ".join(errors.decode(errors="replace").split())
        raise UsageError(f"Graphviz could not draw the dataflow: {problem}")
    for line in output.decode(sys.getdefaultencoding()).splitlines():
        yield line
