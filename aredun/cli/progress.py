"""Progress of a running workflow: a live table on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from aredun.workflow.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from aredun.workflow.jobs import Job

    StatusListener = Callable[[Job, JobStatus | None], None]

STYLES = {
    JobStatus.PENDING: "dim",
    JobStatus.RUNNING: "yellow",
    JobStatus.FAILED: "red",
    JobStatus.CACHED: "cyan",
    JobStatus.DONE: "green",
}
REFRESH_PER_SECOND = 8


class StatusTable(Counter[tuple[str, JobStatus]]):
    """Counts jobs by task and status; rich renders it anew at every refresh."""

    def take(self, job: Job, previous: JobStatus | None) -> None:
        """Take note of a job's change of status."""
        name = job.task.fullname
        self[name, job.status] += 1
        if previous is not None:
            self[name, previous] -= 1

    def __rich__(self) -> Table:
        table = Table("task", box=None, pad_edge=False, header_style="bold")
        for status in JobStatus:
            table.add_column(status.lower(), justify="right", style=STYLES[status])
        table.add_column("total", justify="right")
        # A copy, as rich asks from a thread of its own while jobs go on.
        for name in dict.fromkeys(name for name, _ in list(self)):
            numbers = [self[name, status] for status in JobStatus]
            # A task's name is the workflow's: it is text, whatever it looks like.
            table.add_row(Text(name), *(str(number or "") for number in numbers), str(sum(numbers)))
        return table


@contextmanager
def show_progress(console: Console, *, enabled: bool = True) -> Iterator[StatusListener]:
    """Show the progress of a workflow for the length of the block.

    Parameters
    ----------
    console : Console
        Where to show it: a live table on a terminal, else a line when a job runs, is cached or fails, and
        the table at the end.
    enabled : bool
        False shows nothing.

    Yields
    ------
    Callable[[Job, JobStatus | None], None]
        To be told of every change of status.
    """
    table = StatusTable()
    if not enabled:
        yield table.take
        return
    if console.is_terminal:
        # What tasks print belongs above the display, but into the file where stdout is redirected.
        with Live(
            table,
            console=console,
            refresh_per_second=REFRESH_PER_SECOND,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        ):
            yield table.take
        return

    def report(job: Job, previous: JobStatus | None) -> None:
        table.take(job, previous)
        if job.status in (JobStatus.RUNNING, JobStatus.CACHED, JobStatus.FAILED):
            attempt = f"  attempt {job.attempts}" if job.attempts > 1 else ""
            # rich takes 80 microseconds for a line in which it has nothing to do; this takes one.
            console.file.write(f"{job.status.ljust(8)}{job.id[:8]}  {job.task.fullname}{attempt}\n")

    try:
        yield report
    finally:
        if table:
            console.print(table)
