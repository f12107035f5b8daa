"""What happens to executions and jobs, as it is committed by whatever process: one feed for all who watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aredun.errors import DatabaseMovedError
from aredun.server.answers import dump, is_unreachable
from aredun.server.change_poll import ChangePoll
from aredun.server.streams import TRY_AGAIN, StreamError
from aredun.storage.retry import retry_briefly
from aredun.storage.watch import is_announced, open_watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb
    from aredun.server.change_poll import Event
    from aredun.server.settings import ServerSettings

logger = logging.getLogger("aredun.server")

# However fast others write, changes are looked for this seldom (in seconds), in this share of the time.
_MIN_PAUSE = 0.02
_MAX_SHARE = 0.5
# How long the feed goes on after its last subscriber, so that one who comes back misses nothing.
_LINGER = 60.0
_RETRY_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """A change as it is sent: its number in the feed, what it is about, and the message."""

    seq: int
    execution_id: str
    record_id: str
    change: str
    message: str


class Subscription:
    """The changes that one subscriber has still to take.

    Parameters
    ----------
    execution_id : str | None
        Only those of one execution; None for all.
    max_backlog : int
        More changes than this make the subscriber miss some: it gets an error then.
    """

    def __init__(self, execution_id: str | None, max_backlog: int) -> None:
        self._execution_id = execution_id
        self._max_backlog = max_backlog
        self._queue: asyncio.Queue[Change | Exception] = asyncio.Queue()

    def put(self, change: Change) -> None:
        """Add a change, if it is one of those subscribed to."""
        if self._execution_id is not None and change.execution_id != self._execution_id:
            return
        if self._queue.qsize() < self._max_backlog:
            self._queue.put_nowait(change)
            return
        while not self._queue.empty():
            self._queue.get_nowait()
        self.fail(StreamError(TRY_AGAIN, "too_slow", "changes were dropped: come back with the last cursor"))

    def fail(self, error: Exception) -> None:
        """Let the subscriber have an error after the changes that wait."""
        self._queue.put_nowait(error)

    async def take(self) -> Change:
        """Wait for the next change.

        Raises
        ------
        Exception
            There are no more changes.
        """
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item


class ChangeFeed:
    """
    Looks for changes while somebody is subscribed, once for all of them, and remembers the last ones.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    settings : ServerSettings
        Intervals and bounds.
    """

    def __init__(self, backend: RedunBackendDb, settings: ServerSettings) -> None:
        self._backend = backend
        self._settings = settings
        self._subscriptions: set[Subscription] = set()
        self._left = 0.0
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._reset()

    def _reset(self) -> None:
        self._poll: ChangePoll | None = None
        self._epoch = secrets.token_hex(6)
        self._seq = 0
        self._history: deque[Change] = deque(maxlen=self._settings.max_history)

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscriptions)

    def make_cursor(self, seq: int) -> str:
        """Return the text that stands for a place in the feed."""
        return f"{self._epoch}:{seq}"

    @contextlib.asynccontextmanager
    async def subscribe(
        self, execution_id: str | None = None, after: str | None = None
    ) -> AsyncIterator[tuple[Subscription, str, bool]]:
        """
        Subscribe to changes.

        Parameters
        ----------
        execution_id : str | None
            Only those of one execution.
        after : str | None
            The cursor of the last change that the subscriber has seen.

        Yields
        ------
        tuple[Subscription, str, bool]
            The subscription, the cursor that it begins after, and whether nothing was missed since `after`.
        """
        subscription = Subscription(execution_id, self._settings.max_backlog)
        try:
            async with self._lock:
                if self._poll is None:
                    self._reset()
                    poll = ChangePoll(self._backend)
                    await poll.begin()
                    self._poll = poll
                    self._task = asyncio.create_task(self._run(poll), name="aredun-changes")
                missed = self._find_missed(after)
                if missed is not None:
                    for change in missed:
                        subscription.put(change)
                # Only now: a look under way would have put its changes ahead of those missed.
                self._subscriptions.add(subscription)
                cursor = self.make_cursor(self._seq) if missed is None else str(after)
            yield subscription, cursor, missed is not None
        finally:
            self._subscriptions.discard(subscription)
            self._left = time.monotonic()

    def _is_wanted(self, poll: ChangePoll) -> bool:
        """Tell whether to go on looking; whoever subscribes once nobody wanted it for long begins anew."""
        if not self._subscriptions and time.monotonic() >= self._left + _LINGER and self._poll is poll:
            self._poll = None
        return self._poll is poll

    def _find_missed(self, after: str | None) -> list[Change] | None:
        """Return what was missed since a cursor, None when that is not known any more."""
        epoch, _, number = (after or "").partition(":")
        if epoch != self._epoch or not number.isascii() or not number.isdigit():
            return None
        seq = int(number[:20])
        missed = [change for change in self._history if change.seq > seq]
        return missed if len(missed) == self._seq - seq else None

    async def _run(self, poll: ChangePoll) -> None:
        settings = self._settings
        database = self._backend.database
        interval = settings.server_poll_interval if is_announced(database) else settings.sqlite_poll_interval
        is_told = False
        while self._is_wanted(poll):
            try:
                async with open_watch(database) as watch:
                    while self._is_wanted(poll):
                        if await watch.wait(interval):
                            await self._look(poll)
                        is_told = False
            except DatabaseMovedError as error:
                # Another file is another repository: what was told of this one does not go on there.
                logger.warning("cannot look for changes any more: %s", error)
                for subscription in self._subscriptions:
                    subscription.fail(error)
                self._poll = None
            except Exception as error:
                # A database that is away comes back; until then there is nothing to tell.
                if not is_told:
                    reason = str(error) or type(error).__name__
                    known = is_unreachable(error)
                    logger.warning("cannot look for changes, trying again: %s", reason, exc_info=not known)
                    is_told = True
                await asyncio.sleep(_RETRY_PAUSE)

    async def _look(self, poll: ChangePoll) -> None:
        began = time.perf_counter()
        async with self._lock:
            with retry_briefly():
                events = await poll.read()
            for event in events:
                self._publish(event)
        spent = time.perf_counter() - began
        await asyncio.sleep(max(_MIN_PAUSE, spent * (1 / _MAX_SHARE - 1)))

    def _publish(self, event: Event) -> None:
        self._seq += 1
        head = {"type": event.kind, "change": event.change, "seq": self._seq}
        content = {**head, "cursor": self.make_cursor(self._seq), event.kind: event.content}
        change = Change(self._seq, event.execution_id, event.record_id, event.change, dump(content).decode())
        self._history.append(change)
        for subscription in self._subscriptions:
            subscription.put(change)

    async def close(self) -> None:
        """Stop looking."""
        self._poll = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
