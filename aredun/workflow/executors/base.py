"""What an executor is, and what it is given."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aredun.workflow.executors.scripts import ScriptProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.values import Traceback
    from aredun.values.task_value import TaskValue


@dataclass(eq=False)
class FunctionCall:
    """One try of a plain function.

    Attributes
    ----------
    task : TaskValue
        Whose function is called.
    args, kwargs : tuple[Any, ...], dict[str, Any]
        The arguments, evaluated.
    options : Mapping[str, Any]
        Options of the job, evaluated.
    begin : Callable[[], None]
        To be called, from any thread, when the function begins: the time of the option `timeout` is counted
        from then on.
    is_here : bool
        Whether it runs in the scheduler's process.
    id : str
        Of this try alone.
    script : ScriptProcess
        The process of a script task.
    raised : tuple[BaseException, Traceback] | None
        What the function raised in another process, and where: what crosses over has no traceback.
    """

    task: TaskValue
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Mapping[str, Any]
    begin: Callable[[], None]
    is_here: bool = True
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    script: ScriptProcess = field(default_factory=ScriptProcess)
    raised: tuple[BaseException, Traceback] | None = None


class Executor(ABC):
    """Runs plain functions somewhere; `async def` functions always run on the loop of the scheduler.

    An executor serves one open scheduler at a time.

    Attributes
    ----------
    capacity : int | None
        How many calls it is given at once. None where they run in this process: they take places among the
        scheduler's `max_concurrency`.
    has_resources : bool
        Whether the option `resources` of a task means something to it.
    """

    capacity: int | None = None
    has_resources = False

    async def open(self, backend: RedunBackendDb) -> None:  # noqa: B027 - most have nothing to open
        """Get ready; called once before the first call.

        Parameters
        ----------
        backend : RedunBackendDb
            Where results will be recorded.
        """

    def check(self, task: TaskValue) -> None:  # noqa: B027 - in this process every function can be called
        """Refuse a task that cannot run here.

        Parameters
        ----------
        task : TaskValue
            A task with a plain function.

        Raises
        ------
        UsageError
            Its code cannot be found from where it would run.
        """

    @abstractmethod
    async def submit(self, call: FunctionCall) -> Any:
        """Run a call to its end; cancelling this cancels the call.

        Parameters
        ----------
        call : FunctionCall
            What to run.

        Returns
        -------
        Any
            What the function returned.

        Raises
        ------
        Exception
            What it raised.
        ExecutorError
            The call was lost: its worker has died, or cannot be reached.
        """

    async def close(self) -> None:  # noqa: B027
        """Wait until all has ended, and free what is held; cancelling this stops the waiting.

        No call is under way but those whose `submit` was cancelled.
        """
