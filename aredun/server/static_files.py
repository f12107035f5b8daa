"""The viewer's files: one page, its modules and its styles, served as they are."""

from __future__ import annotations

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


class ViewerFiles:
    """All files of the viewer in memory; there are few, and no request names a path on disk."""

    def __init__(self) -> None:
        self._files = {
            str(path.relative_to(FOLDER)): (path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in _TYPES
        }
        self._tags = {
            name: f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            for name, (content, _) in self._files.items()
        }

    def answer(self, request: Request, name: str) -> Response:
        """Return a file, or that the browser has it already."""
        if name not in self._files:
            return make_problem(404, "there is no such file")
        content, media_type = self._files[name]
        headers = {"etag": self._tags[name], "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == self._tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers={**headers, "content-type": media_type})


def add_viewer(app: FastAPI) -> None:
    """Serve the page at `/` and its files below `/static/`."""
    files = ViewerFiles()

    @app.get("/", include_in_schema=False)
    async def show_page(request: Request) -> Response:
        """Show the viewer."""
        return files.answer(request, PAGE)

    @app.get("/static/{name:path}", include_in_schema=False)
    async def show_file(request: Request, name: str) -> Response:
        """Show a file of the viewer."""
        return files.answer(request, name)
