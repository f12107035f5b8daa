"""Who may talk to the server: tokens, hosts, origins, and the headers that keep a browser from harm."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser

from aredun.server.answers import INTERNAL, SLOW, logger, make_problem
from aredun.storage.retry import retry_briefly

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from aredun.server.settings import ServerSettings

COOKIE = "aredun_token"

# What tells nothing of the repository needs no token: the page asks for it.
_OPEN_PATHS = ("/", "/healthz", "/readyz")
_OPEN_FOLDERS = ("/static/",)

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def is_same_secret(given: str, secret: str) -> bool:
    """Compare two secrets in a time that does not tell where they differ."""
    return hmac.compare_digest(_encode(given), _encode(secret))


def make_session_key(token: str) -> str:
    """Return what a browser keeps instead of the token: it opens this server and does not tell the token."""
    return hmac.new(_encode(token), b"aredun session", hashlib.sha256).hexdigest()


def get_cookie_name(token: str) -> str:
    """Return the name of the cookie that a browser keeps the key in.

    Whatever their ports and paths, the servers of one host get each other's cookies: those with other tokens
    need other names.
    """
    return f"{COOKIE}_{hmac.new(_encode(token), b'aredun cookie', hashlib.sha256).hexdigest()[:8]}"


def has_token(headers: Headers, token: str) -> bool | None:
    """
    Tell whether a request knows the token.

    Returns
    -------
    bool | None
        None when it does not even try.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme:
        return scheme.lower() == "bearer" and is_same_secret(given.strip(), token)
    cookies = cookie_parser(headers.get("cookie", ""))
    given_keys = [cookies[name] for name in (get_cookie_name(token), COOKIE) if name in cookies]
    if not given_keys:
        return None
    secrets = (make_session_key(token), token)
    return any(is_same_secret(key, secret) for key in given_keys for secret in secrets)


def is_host_allowed(headers: Headers, settings: ServerSettings) -> bool:
    """Tell whether a request is addressed to a name of this server, and to a name at all."""
    host = headers.get("host", "")
    try:
        # Without port and brackets.
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        name = ""
    if settings.allowed_hosts is None:
        return not host or bool(name)
    return name in {allowed.lower() for allowed in settings.allowed_hosts}


def is_origin_allowed(headers: Headers, settings: ServerSettings) -> bool:
    """Tell whether a page may open a websocket: one of this server's own, or of an allowed origin.

    Programs other than browsers send no origin.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    own = (f"http://{host}".lower(), f"https://{host}".lower())
    return origin is None or origin in settings.allowed_origins or origin.lower() in own


class Guard:
    """
    Middleware that refuses what must not reach the routes, and adds security headers to every answer.

    Parameters
    ----------
    app : ASGIApp
        What follows.
    settings : ServerSettings
        What is allowed.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; websockets are checked by their endpoints, which can say why."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        is_head = scope["method"] == "HEAD"
        # Health checks and caches ask so: what may be got may be asked about.
        inner = {**scope, "method": "GET"} if is_head else scope
        is_answered = has_failed = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            if is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                if not bound.expired() and not has_failed:
                    bound.reschedule(None)
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache" if _is_open(path) else "no-store")
            await send(message)

        bound = asyncio.timeout(self._settings.request_timeout or None)
        try:
            with retry_briefly():
                async with bound:
                    await (self._refuse(scope, path) or self._app)(inner, receive, send_with_headers)
        except Exception:
            # Starlette would answer it outside of all middleware, without the headers.
            if is_answered:
                raise
            has_failed = True
            if bound.expired():
                logger.warning("%s %s took too long", scope["method"], path[:500])
                await make_problem(504, SLOW, "timeout")(scope, receive, send_with_headers)
                return
            logger.exception("%s %s failed", scope["method"], path[:500])
            await make_problem(500, INTERNAL, "internal")(scope, receive, send_with_headers)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]

    def _refuse(self, scope: Scope, path: str) -> ASGIApp | None:
        settings, headers = self._settings, Headers(scope=scope)
        if not is_host_allowed(headers, settings):
            return make_problem(421, "this server is not known under that name", "unknown_host")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > settings.max_url_length:
            return make_problem(414, "the address is too long", "too_long")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > settings.max_request_size:
            return make_problem(413, "the request is too large", "too_large")
        if settings.token is None or _is_open(path) or has_token(headers, settings.token):
            return None
        answer = make_problem(401, "this server wants a token: 'Authorization: Bearer TOKEN'", "unauthorized")
        answer.headers["www-authenticate"] = "Bearer"
        return answer


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
