"""The arguments of `aredun serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aredun.cli.common import Commands


DEFAULT_HOST = "127.0.0.1"

DEFAULT_PORT = 8080

TOKEN_VARIABLE = "AREDUN_TOKEN"


def add_parser(subparsers: Commands) -> None:
    """Add `serve` to the parser."""
    parser = subparsers.add_parser(
        "serve",
        help="show the repository in a browser, with an HTTP API and websockets",
        description="Serve the viewer at /, the HTTP API at /api (schema: /openapi.json) and websockets "
        "at /ws. Nothing can be written through it.",
    )
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=f"address to listen on (default: {DEFAULT_HOST})"
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port to listen on (default: {DEFAULT_PORT}; 0: any)"
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"what clients must know; needed beyond loopback (default: ${TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another name of this server; repeatable",
    )
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="origin of other pages that may open websockets, such as https://lab.example; repeatable",
    )
    parser.add_argument("--access-log", action="store_true", help="write a JSON object per request to stderr")
    parser.set_defaults(run="aredun.cli.serve:run")
