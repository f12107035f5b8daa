"""The viewer's files: one page, its modules and its styles, compressed for all who take them so."""

from __future__ import annotations

import functools
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request, Response

from aredun.server.answers import make_problem

if TYPE_CHECKING:
    from fastapi import FastAPI

FOLDER = Path(__file__).parent / "static"
PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@functools.cache
def _prepare(content: bytes, is_packed: bool) -> tuple[bytes, str, dict[str, str]]:
    """Return what is sent of a file, the tag that this way of sending it has, and what tells of it."""
    tag = hashlib.sha256(content).hexdigest()[:20]
    if is_packed:
        return gzip.compress(content, mtime=0), f'"{tag}-gzip"', {"content-encoding": "gzip"}
    return content, f'"{tag}"', {}


def takes_gzip(accepted: str) -> bool:
    """Tell whether an `Accept-Encoding` names gzip, and not to refuse it."""
    for choice in accepted.lower().split(","):
        name, _, weight = choice.replace(" ", "").partition(";q=")
        if name == "gzip":
            return not weight or bool(weight.strip("0."))
    return False


def is_known(tag: str, known: str) -> bool:
    """Tell whether an `If-None-Match` names a tag; a proxy may have made it a weak one."""
    return any(item.strip().removeprefix("W/") in (tag, "*") for item in known.split(","))


def add_viewer(app: FastAPI) -> None:
    """Serve the page at `/` and its files below `/static/`."""
    # All in memory: there are few, and no request names a path on disk.
    files = {
        str(path.relative_to(FOLDER)): (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }

    @app.get("/static/{name:path}", include_in_schema=False)
    async def show_file(request: Request, name: str) -> Response:
        """Show a file of the viewer, or tell that the browser has it already."""
        if name not in files:
            return make_problem(404, "there is no such file")
        content, media_type = files[name]
        is_packed = takes_gzip(",".join(request.headers.getlist("accept-encoding")))
        sent, tag, encoding = _prepare(content, is_packed)
        headers = {"etag": tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if is_known(tag, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(sent, headers=headers | {"content-type": media_type, **encoding})

    @app.get("/", include_in_schema=False)
    async def show_page(request: Request) -> Response:
        """Show the viewer."""
        return await show_file(request, PAGE)
