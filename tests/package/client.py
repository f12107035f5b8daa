"""A program of somebody else: what a type checker makes of the installed package."""

from __future__ import annotations

import asyncio
from typing import assert_type

from aredun import CallGraphQuery, File, RedunBackendDb, Scheduler, sync_records, task, walk_dataflow
from aredun.dataflow import DataflowEdge
from aredun.models import Job
from aredun.query import infer_id
from aredun.sync import SyncReport

redun_namespace = "client"


@task()
def count(file: File) -> int:
    """Count the words of a file."""
    return len(file.read().split())


async def main() -> None:
    """Use the names that everybody uses."""
    async with RedunBackendDb("sqlite:///client.db") as backend, Scheduler(backend) as scheduler:
        assert_type(await scheduler.run(count(File("a.txt"))), int)
        value_hash = await backend.record_value(3)
        assert_type(value_hash, str)
        start = await infer_id(backend, value_hash, required=True)
        async for edge in walk_dataflow(backend, start):
            assert_type(edge, DataflowEdge)
        assert_type(CallGraphQuery(backend).filter_types(["Job"]), CallGraphQuery[Job])
        async with RedunBackendDb("sqlite:///copy.db") as copy:
            assert_type(await sync_records(backend, copy), SyncReport)


if __name__ == "__main__":
    asyncio.run(main())
