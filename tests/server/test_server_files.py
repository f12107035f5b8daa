"""The files of the viewer as they are sent: compressed for all who take them so, with tags and headers."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from aredun.server.static_files import FOLDER
from tests.support.server import serve

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from tests.support.server import Served

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def ask(
    served: Served, path: str, *lines: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it stands, and return the status, the headers and the bytes of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
    writer.write("\r\n".join(head).encode())
    answer = await reader.read()
    writer.close()
    first, _, rest = answer.partition(b"\r\n")
    names, _, body = rest.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in names.decode().split("\r\n"))
    return int(first.split()[1]), headers, body


async def test_files_are_sent_compressed(backend: RedunBackendDb) -> None:
    """Whoever takes gzip gets it, with all headers; the page weighs less than 400 kB, and far less."""
    weight = 0
    async with serve(backend) as served:
        for path in sorted(FOLDER.iterdir()):
            status, headers, body = await ask(
                served, f"/static/{path.name}", "Accept-Encoding: br, GZip;q=0.8"
            )
            assert (status, headers["content-encoding"]) == (200, "gzip")
            assert headers["vary"] == "accept-encoding"
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert int(headers["content-length"]) == len(body)
            assert gzip.decompress(body) == path.read_bytes()
            weight += len(body)
        assert (await ask(served, "/", "Accept-Encoding: gzip"))[1]["content-encoding"] == "gzip"
        status, headers, body = await ask(served, "/static/main.js", "Accept-Encoding: gzip", method="HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-encoding"] == "gzip"
    assert weight < 150_000


async def test_files_are_sent_as_they_are_to_others(backend: RedunBackendDb) -> None:
    """Whoever does not take gzip, or refuses it, gets the bytes of the file."""
    async with serve(backend) as served:
        for accepted in ((), ("Accept-Encoding: identity, br",), ("Accept-Encoding: gzip;q=0",)):
            status, headers, body = await ask(served, "/static/main.js", *accepted)
            assert status == 200
            assert "content-encoding" not in headers
            assert headers["vary"] == "accept-encoding"
            assert body == (FOLDER / "main.js").read_bytes()


async def test_a_browser_asks_whether_a_file_has_changed(backend: RedunBackendDb) -> None:
    """Each way of sending has a tag of its own, which is also known in a list, or made weak by a proxy."""
    async with serve(backend) as served:
        packed = "Accept-Encoding: gzip"
        tag = (await ask(served, "/static/main.js", packed))[1]["etag"]
        plain = (await ask(served, "/static/main.js"))[1]["etag"]
        assert tag != plain
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            status, headers, body = await ask(served, "/static/main.js", packed, f"If-None-Match: {known}")
            assert (status, headers["etag"], body) == (304, tag, b"")
            assert "content-encoding" not in headers
            assert headers["x-frame-options"] == "deny"
        assert (await ask(served, "/static/main.js", packed, f"If-None-Match: {plain}"))[0] == 200
        assert (await ask(served, "/static/main.js", f"If-None-Match: {plain}"))[0] == 304
