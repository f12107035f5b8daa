"""Counters for Prometheus, and an access log of one JSON object per request or stream."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aredun.server.answers import dump

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

access_log = logging.getLogger("aredun.access")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_LOGGED = 500


class Metrics:
    """The counters of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        options: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "aredun_http_requests", "Requests answered.", ["method", "route", "status"], **options
        )
        self.seconds = Histogram("aredun_http_request_seconds", "Time to answer.", ["route"], **options)
        self.streams = Gauge("aredun_streams", "Websockets open.", ["endpoint"], **options)
        self.streams_total = Counter("aredun_streams_opened", "Websockets opened.", ["endpoint"], **options)
        self.closes = Counter(
            "aredun_streams_closed", "Websockets closed or refused.", ["endpoint", "code"], **options
        )
        self.edges = Counter("aredun_edges_sent", "Dataflow edges sent.", **options)
        self.changes = Counter("aredun_changes_sent", "Changes of jobs and executions sent.", **options)
        self.connections = Gauge("aredun_database_connections", "Database connections in use.", **options)
        self.subscribers = Gauge("aredun_subscribers", "Subscribers to changes.", **options)

    def render(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self.registry)


def log_access(**fields: Any) -> None:
    """Write a line to the access log: a JSON object, so that nothing in it can end the line."""
    if access_log.isEnabledFor(logging.INFO):
        access_log.info("%s", dump(fields).decode())


class AccessLog:
    """
    Middleware that counts, times and logs requests.

    Parameters
    ----------
    app : ASGIApp
        What follows.
    metrics : Metrics
        Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; streams log themselves when they end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 500, 0
        # An app that this one is mounted in has set its own route, which stays where none of ours answers.
        outer = scope.get("route")

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_and_count)
        finally:
            seconds = time.perf_counter() - began
            found = scope.get("route")
            route = "other" if found is outer else getattr(found, "path", "other")
            self._metrics.requests.labels(_get_method(scope), route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            log_access(
                event="request",
                method=_get_method(scope),
                path=scope["path"][:_MAX_LOGGED],
                status=status,
                bytes=size,
                ms=round(seconds * 1000, 2),
                client=(scope.get("client") or ("",))[0],
            )


def _get_method(scope: Scope) -> str:
    # A client may send any word: labels must not grow with them.
    method = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "OTHER"
