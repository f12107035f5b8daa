"""Options that nothing acts on are refused by name; those of its executors only redun takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redun
import redun.scheduler

from aredun import Scheduler, UsageError, task
from aredun.redun_bridge import RedunBackendDb as BridgeBackendDb
from aredun.values import get_type_registry, pickle_dumps, pickle_loads
from aredun.workflow.operators import cond
from aredun.workflow.tasks import get_task_registry, scheduler_task
from tests.support.commands import run_aredun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

redun_namespace = "option_names"


@task()
def one(x: int = 1) -> int:
    """Return what it is given."""
    return x


@redun.task(namespace="option_names", name="theirs", memory=4, executor="default", bogus=1)
def theirs(x: int) -> int:
    """Return what it is given, in redun."""
    return x


def new() -> int:
    """Is made a task by each test."""
    return 1


DECORATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "task": lambda options: task(name="new", **options)(new),
    "export": lambda options: task(name="new", export_options=options)(new),
    "scheduler_task": lambda options: scheduler_task(name="new", **options)(new),  # type: ignore[arg-type]
}
CALLS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "options": lambda options: one.options(**options),
    "export_options": lambda options: one.export_options(**options),
    "partial": lambda options: one.partial(1).options(**options),
    "operator": lambda options: cond.options(**options),
}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"chache": False}, "unknown option chache: did you mean cache?"),
    ({"limit": ["db"]}, "unknown option limit: did you mean limits?"),
    (
        {"bogus": 1},
        "unknown option bogus: give one of allowed_cache_results, cache, cache_scope, check_valid,",
    ),
    (
        {"memory": 3},
        "option memory is for redun's executors and does nothing in aredun's scheduler: leave it",
    ),
    ({"cache": True, "vcpus": 1}, "option vcpus is for redun's executors"),
]


@pytest.mark.parametrize(("options", "message"), FAULTS, ids=[" ".join(options) for options, _ in FAULTS])
@pytest.mark.parametrize("name", [*DECORATIONS, *CALLS])
def test_options_that_do_nothing_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        (DECORATIONS | CALLS)[name](options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert get_task_registry().get("option_names.new") is None, "a task that is refused is not defined"


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"^task new: option memory .*; unknown option chache: did you"):
        DECORATIONS["task"]({"memory": 3, "check_valid": "full", "chache": False})


def test_a_misspelled_argument_of_the_decorator() -> None:
    with pytest.raises(UsageError, match="unknown option versoin: did you mean version"):
        task(versoin="1")(new)
    for name in ("version", "config_args"):
        with pytest.raises(UsageError, match=f"{name} is no option of a call: give it to the decorator"):
            one.options(**{name: "1"})


async def test_options_that_count_and_context_are_taken() -> None:
    changed = one.options(
        cache=False, check_valid="full", prov=True, limits=["db"], tags=[["a", 1]], nout=None
    )
    async with Scheduler() as scheduler:
        assert await scheduler.run(changed.update_context(a=1)(2)) == 2
        assert await scheduler.run(one.partial(3).update_context(a=1)()) == 3


async def test_calls_that_redun_recorded_keep_their_options() -> None:
    """What a repository holds is read, hashed and run as it is."""
    redun_one = redun.task(namespace="option_names", name="one", source=one.source)(one.func)
    recorded = redun_one.options(memory=4, image="batch")(5)
    call = pickle_loads(redun.utils.pickle_dumps(recorded))
    assert pickle_dumps(call) == redun.utils.pickle_dumps(recorded)
    assert get_type_registry().get_hash(call) == redun.value.get_type_registry().get_hash(recorded)
    async with Scheduler() as scheduler:
        assert await scheduler.run(call) == 5


def test_redun_takes_its_own_options_on_the_bridge(database_url: str) -> None:
    bridge = BridgeBackendDb(db_uri=database_url)
    bridge.load()
    try:
        scheduler = redun.scheduler.Scheduler(backend=bridge)
        assert scheduler.run(theirs.options(vcpus=2, retries=1)(7)) == 7
    finally:
        bridge.close()


def test_command(tmp_path: Path) -> None:
    """An unknown option ends the command before anything is created, `-o` or in the file."""
    (tmp_path / "flow.py").write_text("from aredun import task\n@task()\ndef main():\n    return 1\n")
    done = run_aredun("run", "flow.py", "main", "-o", "chache=false", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "aredun: invalid --option: task main: unknown option chache: did you mean cache?\n"
    (tmp_path / "wrong.py").write_text(
        "from aredun import task\n@task(retires=3)\ndef main():\n    return 1\n", encoding="utf-8"
    )
    done = run_aredun("run", "wrong.py", "main", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unknown option retires: " in done.stderr
    assert not (tmp_path / ".redun").exists()
