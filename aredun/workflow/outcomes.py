"""What comes of expressions under evaluation: their futures, and values that wait for these."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from aredun.values.nested import SCALARS, is_long, map_nested_value
from aredun.workflow.failures import forget_locals
from aredun.workflow.jobs import PendingExpression

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

# A value with the expressions in it begun: pending ones in their places, and where their results will be.
Terms = tuple[Any, list[asyncio.Future[Any]]]


class ResultCollector:
    """Waits for the expressions of a nested value: for all, or for the first that fails.

    Parameters
    ----------
    terms : Terms
        The value.
    outcome : asyncio.Future[Any]
        Fails if one of them does. Nothing is waited for once it is done.
    then : Callable[[Any], None]
        Called with the value, without any expression.
    variables : Context
        What is called sees of `contextvars`; mostly one for all, as each would be another object.
    """

    __slots__ = ("_left", "_outcome", "_shape", "_then", "_variables")

    def __init__(
        self, terms: Terms, outcome: asyncio.Future[Any], then: Callable[[Any], None], variables: Context
    ) -> None:
        self._shape, started = terms
        self._left = len(started)
        self._outcome = outcome
        self._then = then
        self._variables = variables
        for future in started:
            future.add_done_callback(self._note, context=variables)

    def _note(self, future: asyncio.Future[Any]) -> None:
        self._left -= 1
        if self._outcome.done():
            return
        if not future.cancelled() and (error := future.exception()) is not None:
            fail(self._outcome, error)
        elif not self._left:
            shape, self._shape = self._shape, None
            if is_long(shape):
                filled = asyncio.get_running_loop().run_in_executor(None, fill_in, shape)
                filled.add_done_callback(lambda done: self._go_on(done.result), context=self._variables)
            else:
                self._go_on(partial(fill_in, shape))

    def _go_on(self, get_value: Callable[[], Any]) -> None:
        if self._outcome.done():
            return
        try:
            self._then(get_value())
        except (Exception, asyncio.CancelledError) as error:
            # An error keeps its frames, and a frame keeps its local variables.
            forget_locals(error)
            fail(self._outcome, error)


def hand_over(outcome: asyncio.Future[Any], ended: asyncio.Future[Any]) -> None:
    """Let a future end as another one, or a task, has ended."""
    if outcome.done():
        return
    if ended.cancelled():
        outcome.cancel()
    elif (error := ended.exception()) is not None:
        fail(outcome, error)
    else:
        outcome.set_result(ended.result())


def fill_if_known(shape: Any, started: list[asyncio.Future[Any]]) -> Terms:
    """Fill in what is known, if all of it is."""
    if not started or not all(is_successful(future) for future in started):
        return shape, started
    return fill_in(shape), []


def fill_in(shape: Any) -> Any:
    """Put the results in their places."""
    return map_nested_value(
        lambda term: term.future.result() if isinstance(term, PendingExpression) else term, shape, SCALARS
    )


def fail(outcome: asyncio.Future[Any], error: BaseException) -> None:
    """Let a future end with an error, or cancelled."""
    if isinstance(error, asyncio.CancelledError):
        outcome.cancel()
    elif not outcome.done():
        outcome.set_exception(error)


def is_successful(future: asyncio.Future[Any]) -> bool:
    """Tell whether a future has a result already."""
    return future.done() and not future.cancelled() and future.exception() is None


def make_resolved(value: Any) -> asyncio.Future[Any]:
    """Return a future that has a result."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def make_failed(error: BaseException) -> asyncio.Future[Any]:
    """Return a future that has failed, or is cancelled."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    fail(future, error)
    mark_retrieved(future)
    return future


def mark_retrieved(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from warning of an error that nobody asks for: it is recorded on its job."""
    if not future.cancelled():
        future.exception()
