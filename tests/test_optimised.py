"""`python -O` drops every `assert`, and nothing of aredun may hang on one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio
from aredun import RedunBackendDb, RedunDatabaseError, Scheduler, task

@task(namespace="optimised")
def double(x: int) -> int:
    return 2 * x

async def main():
    unloaded = RedunBackendDb("sqlite:///:memory:")
    for use in (unloaded.clone, lambda: unloaded.entities, lambda: unloaded.database):
        try:
            use()
        except RedunDatabaseError as error:
            print(error)
    async with Scheduler() as scheduler:
        print(__debug__, await scheduler.run(double(double(2))))

asyncio.run(main())
"""


def test_a_workflow_and_a_refusal_without_asserts(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run([sys.executable, "-O", str(script)], capture_output=True, text=True, check=False)
    refusal = "the backend is not loaded: await backend.load() first"
    assert done.stdout.splitlines() == [refusal, refusal, refusal, "False 8"], done.stderr
