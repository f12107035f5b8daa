"""What a server allows: addresses, tokens, and the bounds of what one client may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from aredun.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def normalize_origin(text: str) -> str:
    """
    Return an origin as browsers send it: in lower case, without a slash at its end or a default port.

    Raises
    ------
    UsageError
        It is no origin: a page's whole address, a name without a scheme, a pattern.
    """
    if text == "null":
        return text
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
        name = host if host.isascii() else host.encode("idna").decode()
    except ValueError:
        host = name = ""
    if (
        not host
        or "*" in host
        or parts.username
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise UsageError(f"{text!r} is no origin: give a scheme and a host, such as https://lab.example")
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}" + (
        "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """
    The settings of one server. Times are in seconds, sizes in bytes.

    Attributes
    ----------
    token : str | None
        What a client has to know; None lets everybody in who reaches the server.
    allowed_hosts : tuple[str, ...] | None
        Names that requests may be addressed to (`Host`), without port; None allows all. The command sets it,
        so that a page elsewhere cannot reach a server on loopback under a name of its own.
    allowed_origins : tuple[str, ...]
        Origins of pages that may open websockets, beside the server's own.
    max_connections : int
        Websockets open at a time.
    max_request_size : int
        Largest body of a request, in bytes; the API takes none.
    max_url_length : int
        Longest path and query of a request, in bytes.
    max_page_size : int
        Most records on a page.
    max_edges : int
        Most edges of one walk; a client may ask for fewer.
    max_section_edges : int
        Most edges of a walk whose sections are made, since they take the whole walk in memory.
    max_batch : int
        Most edges in one message.
    auth_timeout : float
        Seconds that a websocket may wait with its token.
    request_timeout : float
        Seconds that a request may take until its answer begins (504 afterwards); 0 for no bound.
    stall_timeout : float
        Seconds that a client may take no message at all before its stream is ended.
    sqlite_poll_interval, server_poll_interval : float
        Seconds between two looks for changes in a sqlite file (one cheap question), and on a database
        server (where aredun's writers announce theirs).
    max_history : int
        Changes that are remembered for clients that come back.
    max_backlog : int
        Changes that may wait for one slow subscriber, before it is told to come back.
    snapshot_executions, snapshot_jobs : int
        Most records in the first message of a subscription.
    """

    token: str | None = None
    allowed_hosts: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = 1_000
    max_request_size: int = 64 * 1024
    max_url_length: int = 16 * 1024
    max_page_size: int = 500
    max_edges: int = 1_000_000
    max_section_edges: int = 200_000
    max_batch: int = 5_000
    auth_timeout: float = 10.0
    request_timeout: float = 60.0
    stall_timeout: float = 300.0
    sqlite_poll_interval: float = 0.2
    server_poll_interval: float = 0.5
    max_history: int = 10_000
    max_backlog: int = 20_000
    snapshot_executions: int = 50
    snapshot_jobs: int = 5_000

    def __post_init__(self) -> None:
        # A frozen dataclass sets what it makes of its arguments so.
        object.__setattr__(self, "allowed_origins", tuple(map(normalize_origin, self.allowed_origins)))
        token = self.token
        if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
            raise UsageError(
                "the token cannot be sent in a header: give ASCII letters, digits and punctuation"
            )
