"""Answers in JSON, and errors that say no more than what the client did wrong."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from aredun.errors import (
    AmbiguousIdError,
    AredunError,
    DatabaseMovedError,
    RedunDatabaseError,
    UnknownIdError,
)
from aredun.formats.describe import cut_text
from aredun.storage.retry import is_outage

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("aredun.server")

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    503: "unavailable",
}
INTERNAL = "something went wrong on the server; its log says what"
UNAVAILABLE = "the database does not answer: try again soon"
SLOW = "the answer takes longer than this server allows: try again, or ask for less"
MOVED = "the file of the database was replaced, removed or rewritten: the server has to be started again"
# In seconds; a server that restarts takes longer, but clients need not all come at its end.
_RETRY_AFTER = "2"


def dump(value: Any) -> bytes:
    """Return a value as JSON; whatever orjson refuses (lone surrogates, huge numbers) goes the slow way."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, default=str).encode()


def make_problem(status: int, message: str, error: str | None = None) -> Response:
    """Return an error as an answer."""
    content = {"error": error or _CODES.get(status, "error"), "message": cut_text(message, 500)}
    headers = {"retry-after": _RETRY_AFTER} if status == 503 else None
    return Response(dump(content), status_code=status, headers=headers, media_type="application/json")


def is_unreachable(error: BaseException) -> bool:
    """Tell whether an error came of a database that cannot be reached, and may be reached again."""
    return isinstance(error, RedunDatabaseError) and is_outage(error.__cause__ or error)


def get_problem(error: Exception) -> tuple[int, str, str]:
    """Return the HTTP status, the code and the text that a client gets to see of an error.

    What the database or the machine says stays in the log: it may hold paths, queries and addresses.
    """
    if isinstance(error, UnknownIdError):
        return 404, "not_found", str(error)
    if isinstance(error, AmbiguousIdError):
        return 409, "ambiguous", str(error)
    if is_unreachable(error):
        return 503, "unavailable", UNAVAILABLE
    if isinstance(error, DatabaseMovedError):
        return 503, "unavailable", MOVED
    if isinstance(error, AredunError) and not isinstance(error, RedunDatabaseError):
        return 400, "bad_request", str(error)
    return 500, "internal", INTERNAL


async def _handle_known(request: Request, error: Exception) -> Response:
    status, code, message = get_problem(error)
    if status == 500:
        logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    elif status == 503:
        logger.warning("%s %s failed: %s", request.method, request.scope["path"], error)
    return make_problem(status, message, code)


async def _handle_invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, AredunError):
        # What our own checks refuse is told in their words.
        return await _handle_known(request, cause)
    place = ".".join(map(str, first.get("loc", ())[1:]))
    return make_problem(422, f"{place}: {first.get('msg', 'invalid')}", "invalid")


async def _handle_http(request: Request, error: HTTPException) -> Response:
    answer = make_problem(error.status_code, str(error.detail))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


def add_error_handlers(app: FastAPI) -> None:
    """Have the errors that are expected answered as JSON; `security.Guard` answers all others."""
    app.exception_handler(AredunError)(_handle_known)
    app.exception_handler(RequestValidationError)(_handle_invalid)
    app.exception_handler(HTTPException)(_handle_http)
