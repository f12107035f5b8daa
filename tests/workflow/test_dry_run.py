"""A dry run: which calls would run, while none does and nothing is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun import Handle, task
from aredun.models import Base
from aredun.workflow.operators import apply_tags, catch, cond, map_
from tests.support.scheduling import add, calls, combine, double, inc

if TYPE_CHECKING:
    from aredun import RedunBackendDb, Scheduler

redun_namespace = "test_dry_run"


class Connection(Handle):
    """A handle on nothing."""

    def __init__(self, name: str, namespace: str | None = None) -> None:
        pass


@task
def recover(error: Exception) -> str:
    return str(error)


@task
def use(connection: Connection) -> Connection:
    return connection


async def count_rows(backend: RedunBackendDb) -> dict[str, int]:
    """Return the number of rows of each table."""
    async with backend.session() as session:
        return {
            name: (await session.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
            for name, table in Base.metadata.tables.items()
        }


async def test_tells_what_would_run(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    await scheduler.run([inc(1), inc(2)])
    calls.clear()
    before = await count_rows(backend)

    found = await scheduler.dry_run({"a": add(inc(1), b=inc(5)), "b": [double(inc(2)), inc(7)], "c": inc(7)})

    assert found.calls == ["sched.inc(5)", "sched.inc(7)", "sched.double(3)"]
    assert (found.cached, found.result) == (2, None)
    assert not calls
    assert await count_rows(backend) == before


async def test_a_call_that_would_run_hides_what_it_would_call(scheduler: Scheduler) -> None:
    assert (await scheduler.dry_run(combine(1))).calls == ["sched.combine(1)"]
    await scheduler.run(combine(1))
    calls.clear()
    found = await scheduler.dry_run(combine(1))
    assert (found.calls, found.result) == ([], 4 + 6)
    assert (await scheduler.dry_run(combine(1), cache=False)).calls == ["sched.combine(1)"]
    assert not calls


async def test_operators_record_nothing(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    await scheduler.run([inc(1), inc(2)])
    before = await count_rows(backend)
    expression: Any = [
        catch(inc(9), Exception, recover),
        catch(inc(1), Exception, recover),
        cond(inc(1) == 2, double(20), double(30)),
        apply_tags(inc(2), tags=[("a", 1)], job_tags=[("b", 2)]),
        map_(inc, [1, 8]),
        use(Connection("somewhere")),
    ]
    found = await scheduler.dry_run(expression)
    assert [call.partition("(")[0] for call in found.calls].count("sched.inc") == 2
    assert {"sched.inc(9)", "sched.inc(8)", "sched.double(20)"} < set(found.calls)
    assert len(found.calls) == 4
    assert await count_rows(backend) == before
