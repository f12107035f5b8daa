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

from aredun.database.retry import hurry
from aredun.database.watch import is_announced, open_watch
from aredun.errors import DatabaseMovedError
from aredun.server.answers import dump, is_unreachable
from aredun.server.change_poll import ChangePoll

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
        More changes than this make the subscriber miss some: `lost` is set then.
    """

    def __init__(self, execution_id: str | None, max_backlog: int) -> None:
        self._execution_id = execution_id
        self._max_backlog = max_backlog
        self._changes: deque[Change] = deque()
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None
        self.lost = False

    def put(self, change: Change) -> None:
        """Add a change, if it is one of those subscribed to."""
        if self.lost or (self._execution_id is not None and change.execution_id != self._execution_id):
            return
        if len(self._changes) >= self._max_backlog:
            self.lost = True
            self._changes.clear()
        else:
            self._changes.append(change)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Let the subscriber have an error: there will be no more changes."""
        self._failure = error
        self._arrived.set()

    async def take(self, most: int) -> list[Change]:
        """Wait for changes and return the next of them; none if some were lost."""
        while not self._changes and not self.lost:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        return [self._changes.popleft() for _ in range(min(most, len(self._changes)))]


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
        self._task: asyncio.Task[None] | None = None
        self._stop: asyncio.TimerHandle | None = None
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

    @property
    def seq(self) -> int:
        """How many changes there were."""
        return self._seq

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
                if self._task is None:
                    self._task = asyncio.create_task(self._run(self._poll), name="aredun-changes")
                missed = self._find_missed(after)
                if missed is not None:
                    for change in missed:
                        subscription.put(change)
                # Not before: a look that was under way would have put its changes ahead of those missed.
                self._subscriptions.add(subscription)
                self._keep_on()
                cursor = self.make_cursor(self._seq) if missed is None else str(after)
            yield subscription, cursor, missed is not None
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions and self._task is not None:
                self._keep_on()
                self._stop = asyncio.get_running_loop().call_later(_LINGER, self._end)

    def _keep_on(self) -> None:
        """Do not stop looking after all."""
        if self._stop is not None:
            self._stop.cancel()
            self._stop = None

    def _end(self) -> None:
        """Stop looking: whoever subscribes from now on begins anew, while the task still cleans up."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._poll = None

    def _find_missed(self, after: str | None) -> list[Change] | None:
        """Return what was missed since a cursor, None when that is not known any more."""
        epoch, _, number = (after or "").partition(":")
        if epoch != self._epoch or not number.isascii() or not number.isdigit():
            return None
        seq = int(number[:20])
        if seq > self._seq or (seq < self._seq and (not self._history or self._history[0].seq > seq + 1)):
            return None
        return [change for change in self._history if change.seq > seq]

    async def _run(self, poll: ChangePoll) -> None:
        settings = self._settings
        database = self._backend.database
        interval = settings.server_poll_interval if is_announced(database) else settings.sqlite_poll_interval
        is_told = False
        while True:
            try:
                async with open_watch(database) as watch:
                    while True:
                        if await watch.wait(interval):
                            await self._look(poll)
                        is_told = False
            except DatabaseMovedError as error:
                # Another file is another repository: what was told of this one does not go on there.
                logger.warning("cannot look for changes any more: %s", error)
                for subscription in self._subscriptions:
                    subscription.fail(error)
                if self._poll is poll:
                    self._task = self._poll = None
                return
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
            with hurry():
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
        self._keep_on()
        task = self._task
        self._end()
        if task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await task
