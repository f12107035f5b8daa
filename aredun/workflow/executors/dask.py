"""Functions on a cluster of dask's (`aredun[dask]`)."""

from __future__ import annotations

import asyncio
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from aredun.errors import ExecutorError, UsageError
from aredun.formats.describe import describe_error
from aredun.workflow.executors.remote import RemoteExecutor, ResultStore, make_reference

try:
    from distributed import Client, LocalCluster

    from aredun.workflow.executors.dask_worker import BeginPlugin, run_on_worker
except ImportError as error:
    raise UsageError(
        f"is of type dask, which needs more than is installed ({error}): pip install 'aredun[dask]'"
    ) from error

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.values.task_value import TaskValue
    from aredun.workflow.executors.base import FunctionCall
    from aredun.workflow.executors.remote import Outcome, TaskReference

DEFAULT_CAPACITY = 1000
DEFAULT_MAX_RESULT_SIZE = 1 << 20


@dataclass(eq=False)
class DaskExecutor(RemoteExecutor):
    """Runs functions on the workers of a cluster, which have to have aredun and the workflow's modules.

    A worker that dies loses the calls that it had begun: each is a failed try, which only the option
    `retries` of its task repeats. A function that has begun cannot be interrupted: when its call is
    cancelled, or outlives its timeout, it is left alone and keeps its worker until it ends. Calls that wait
    are dropped.

    Parameters
    ----------
    cluster : Any
        The address of a scheduler (`tcp://host:8786`) or a cluster of dask's, which is left running; by
        default a `LocalCluster` of this executor's own.
    n_workers, threads_per_worker : int | None
        Of that `LocalCluster`: by default as many processes as the machine has processors, with one thread.
    resources : dict[str, float] | None
        What each call takes of the resources that workers have, beside the option `resources` of its task.
    capacity : int
        How many calls dask is given at once; it holds those that no worker is free for.
    max_result_size : int
        Bytes from which on a result goes through the value store, if the repository has one, rather than
        through dask's scheduler.
    """

    has_resources = True

    cluster: Any = None
    _: KW_ONLY
    n_workers: int | None = None
    threads_per_worker: int = 1
    resources: dict[str, float] | None = None
    capacity: int = DEFAULT_CAPACITY
    max_result_size: int = DEFAULT_MAX_RESULT_SIZE

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise UsageError(f"capacity is {self.capacity}: give 1 or more")
        self._own: Any = None
        self._client: Any = None
        self._storage: ResultStore | None = None
        self._waiting: dict[str, FunctionCall] = {}

    async def open(self, backend: RedunBackendDb) -> None:
        """Connect to the cluster."""
        self._store = backend.value_store
        if backend.value_store is not None:
            least = max(self.max_result_size, backend.config.value_store_min_size)
            self._storage = ResultStore(backend.value_store.root_path, least)
        try:
            if self.cluster is None:
                self._own = await LocalCluster(
                    n_workers=self.n_workers,
                    threads_per_worker=self.threads_per_worker,
                    processes=True,
                    asynchronous=True,
                    # The dashboard's own port may be another cluster's.
                    dashboard_address=":0",
                )
            client = Client(self._own or self.cluster, asynchronous=True, set_as_default=False)
            self._client = await client
            await client.register_plugin(BeginPlugin())
            self._topic = f"aredun-{client.id}"
            client.subscribe_topic(self._topic, self._on_begin)
        except Exception as error:
            await self.close()
            where = f"the cluster {self.cluster}" if self.cluster else "a local cluster"
            raise ExecutorError(f"cannot use {where}: {describe_error(error)}") from error

    def check(self, task: TaskValue) -> None:
        """Refuse a task that another process could not import."""
        if make_reference(task).module == "__main__":
            raise UsageError(
                f"task {task.fullname} is defined in the script that runs, which a worker cannot import: put "
                "it into a module"
            )

    async def _send(self, call: FunctionCall, reference: TaskReference, data: bytes) -> Outcome:
        key = f"{call.task.fullname}-{call.id}"
        resources = {**(self.resources or {}), **call.options.get("resources", {})}
        topic = None if call.options.get("timeout") is None else self._topic
        self._waiting[key] = call
        future = None
        try:
            future = self._client.submit(
                run_on_worker,
                key,
                topic,
                reference,
                data,
                self._storage,
                key=key,
                pure=False,
                retries=0,
                resources=resources or None,
            )
            outcome: Outcome = await future
        except Exception as error:
            # What the function raises comes back as an outcome.
            raise ExecutorError(
                f"task {call.task.fullname} was lost by the dask cluster: {describe_error(error)}"
            ) from error
        finally:
            del self._waiting[key]
            if future is not None:
                future.release()
        return outcome

    def _on_begin(self, event: tuple[float, str]) -> None:
        call = self._waiting.get(event[1])
        if call is not None:
            call.begin()

    async def close(self) -> None:
        """Leave the cluster; one of this executor's own ends."""
        client, self._client = self._client, None
        own, self._own = self._own, None
        try:
            if client is not None:
                await client.close()
        finally:
            if own is not None:
                await asyncio.shield(asyncio.ensure_future(own.close()))
