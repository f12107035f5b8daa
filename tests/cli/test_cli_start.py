"""What a run waits for before its first task: imports, and the garbage collector."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What no plain run on sqlite needs, and who does.
SPARED = {
    "aiohttp": "file systems on the web",
    "alembic": "a database that is not there, or has another schema than the newest",
    "aredun.bridge": "redun's own scheduler",
    "aredun.dataflow": "`aredun dataflow`",
    "aredun.query": "`aredun query`",
    "aredun.server": "`aredun serve`",
    "aredun.sync": "`aredun sync`",
    "asyncpg": "PostgreSQL",
    "boto3": "secrets of AWS",
    "dask": "an executor of redun.ini's",
    "dateutil": "an argument that is a time",
    "distributed": "an executor of redun.ini's",
    "fsspec": "files that are not local",
    "numpy": "values of it",
    "pandas": "values of it",
    "pdb": "`--pdb`",
    "redun": "the bridge",
    "shtab": "`aredun completion`",
    "starlette": "`aredun serve`",
    "uvicorn": "`aredun serve`",
}
WORKFLOW = """
import gc
import sys
import weakref

from aredun import task

redun_namespace = "start"


class Ring:
    def __init__(self):
        self.ring = self


# The workflow's own garbage, older than every task.
ring = weakref.ref(Ring())


@task()
def look():
    frozen, threshold = gc.get_freeze_count(), gc.get_threshold()
    gc.collect()
    modules = sorted(sys.modules)
    return {"modules": modules, "frozen": frozen, "threshold": threshold, "kept": ring() is not None}
"""


def run_python(program: str, *arguments: str, cwd: Path) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_run_imports_what_it_needs_and_leaves_tasks_the_collector(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(WORKFLOW)
    program = "import gc, sys; from aredun.cli import main; print(gc.get_threshold()); sys.exit(main())"
    run_python("from aredun.cli import main; main()", "init", cwd=tmp_path)
    threshold, result = run_python(program, "run", "flow.py", "look", cwd=tmp_path).split("\n", 1)
    seen = eval(result)
    assert SPARED.keys() & set(seen["modules"]) == set()
    # What the command imported is looked at no more, at exit neither; all else is as Python has it.
    assert seen["frozen"] > 50_000
    assert str(seen["threshold"]) == threshold
    assert not seen["kept"]


def test_a_program_that_calls_a_command_keeps_its_collector(tmp_path: Path) -> None:
    program = """
import gc
from aredun.cli import main
gc.freeze()
frozen, threshold = gc.get_freeze_count(), gc.get_threshold()
assert main(["init"]) == 0
assert main(["log"]) == 0
assert gc.get_threshold() == threshold
# What is frozen may still die.
assert frozen - 1_000 < gc.get_freeze_count() <= frozen, (frozen, gc.get_freeze_count())
"""
    run_python(program, cwd=tmp_path)
