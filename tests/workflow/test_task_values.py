"""Tasks, their sources and the errors that they raise are stored and shown as redun does."""

from __future__ import annotations

from typing import Any

import pytest
import redun
import redun.file
import redun.scheduler
import redun.utils
import redun.value

import aredun.values
from aredun.values import (
    ErrorValue,
    File,
    JobInfo,
    TaskValue,
    Traceback,
    get_func_source,
    get_task_registry,
    hash_args_eval,
    pickle_dumps,
    pickle_loads,
)
from tests.support.values import make_pair, plain_function, redun_registry, redun_task_module, registry


def decorated(func: Any) -> Any:
    """Leave a function as it is; a decorator for the tests of sources."""
    return func


@decorated
def plain_task(x: int) -> int:
    """Return the argument."""

    def inner() -> int:
        return x

    return inner()


@decorated
async def async_task(x: int) -> int:
    """Return the argument."""
    return x


@decorated
async def async_task_with_inner_function(x: int) -> int:
    """Return the argument."""

    def inner() -> int:
        return x

    return inner()


def test_sources_are_those_of_redun() -> None:
    for func in (plain_task, async_task, plain_function):
        assert get_func_source(func) == redun.utils.get_func_source(func)


def test_the_source_of_an_async_function_is_whole() -> None:
    # redun sees the inner function alone, so that a change before it goes unnoticed.
    assert "async def" in get_func_source(async_task_with_inner_function)


def typed_pair(x: int) -> tuple[int, str]:
    """Return two items."""
    return x, "a"


typed_pair.__annotations__["return"] = tuple[int, str]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "2"},
        {"namespace": "n.s", "name": "other"},
        {"compat": ["0123abc"]},
        {"hash_includes": ["b", "a", 3]},
        {"script": True},
        {"source": "def f(): return 1"},
        {"memory": 4, "cache": False, "check_valid": "shallow"},
        {"nout": 3},
        {"prov": False},
    ],
    ids=str,
)
def test_tasks_hash_and_store_as_in_redun(options: dict[str, Any]) -> None:
    ours, theirs = make_pair(typed_pair, **options)
    for one, other in (
        (ours, theirs),
        (ours.options(limits=["db"], cache=False), theirs.options(limits=["db"], cache=False)),
        (ours.export_options(limits={"db": 2}), theirs.export_options(limits={"db": 2})),
        (ours.update_context(a={"b": 1}), theirs.update_context(a={"b": 1})),
        (ours.partial(1).partial(k=2), theirs.partial(1).partial(k=2)),
    ):
        assert one.hash == other.hash
        assert repr(one) == repr(other)
        assert pickle_dumps(one) == redun.utils.pickle_dumps(other)
        assert one.nout == other.nout
        assert one.get_task_options().keys() == other.get_task_options().keys()
        assert pickle_dumps(one(5)) == redun.utils.pickle_dumps(other(5))
        assert registry.get_hash(one(5)) == redun_registry.get_hash(other(5))


@pytest.mark.parametrize(
    "options",
    [{"name": "no-name"}, {"namespace": "1x"}, {"config_args": ["y"]}, {"cache_scope": "all"}],
    ids=str,
)
def test_bad_tasks(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        make_pair(typed_pair, **options)


def test_a_bad_nout() -> None:
    with pytest.raises(TypeError, match="nout"):
        TaskValue(typed_pair, task_options_base={"nout": -1})


def test_stored_tasks_find_their_function() -> None:
    task = TaskValue(plain_task, namespace="tests_values")
    tasks = get_task_registry()
    tasks.add(task)
    loaded = pickle_loads(pickle_dumps(task))
    assert loaded.func is plain_task
    assert loaded.is_valid()
    assert task.hash in tasks.task_hashes
    assert tasks.get(hash=task.hash) is task
    partial = pickle_loads(pickle_dumps(task.partial(1)))
    assert partial.is_valid()
    assert partial.args == (1,)
    call = task(File("/nowhere/a"))
    assert pickle_loads(pickle_dumps(call)).is_valid()
    tasks.rename(task.fullname, "tests_values", "renamed")
    assert not pickle_loads(pickle_dumps(call)).is_valid()
    assert tasks.get("tests_values.renamed") is task
    with pytest.raises(ValueError, match="name or a hash"):
        tasks.get()


def test_the_hash_of_a_defined_task_is_that_of_now() -> None:
    task = TaskValue(plain_task, namespace="tests_values_changed")
    tasks = get_task_registry()
    tasks.add(task)
    before, task.version = task.hash, "2"
    task.recompute_hash()
    assert task.hash in tasks.task_hashes
    assert before not in tasks.task_hashes


def test_a_stored_task_that_is_no_longer_defined() -> None:
    task = TaskValue(plain_task, namespace="tests_values_gone")
    loaded = pickle_loads(pickle_dumps(task))
    with pytest.raises(ValueError, match="undefined"):
        loaded.func(1)
    with pytest.raises(ValueError, match="hash"):
        get_task_registry().get()


def with_job_info(x: int, *rest: int, config: str = "", info: Any = None) -> int:
    """Take arguments that do not count."""
    return x


def test_hash_args_eval() -> None:
    ours, theirs = make_pair(with_job_info, config_args=["config"])
    their_info = redun.scheduler.JobInfo()
    for args, kwargs in (((1,), {}), ((1, 2, 3, 4, 5, 6), {}), ((1,), {"config": "a"})):
        assert hash_args_eval(registry, ours, args, {**kwargs, "info": JobInfo()}) == (
            redun_task_module.hash_args_eval(redun_registry, theirs, args, {**kwargs, "info": their_info})
        )


def test_job_info_pickles_as_in_redun() -> None:
    values = ("e", "j", "h", "a", {"memory": 1})
    ours, theirs = JobInfo(*values), redun.scheduler.JobInfo(*values)
    assert pickle_dumps(ours) == redun.utils.pickle_dumps(theirs)
    assert repr(pickle_loads(pickle_dumps(ours))) == repr(theirs)


def failing_function() -> None:
    """Raise."""
    raise ValueError("no")


def test_errors_store_as_in_redun() -> None:
    try:
        failing_function()
    except ValueError as raised:
        error = raised
    ours = ErrorValue(error, Traceback.from_error(error))
    theirs = redun.scheduler.ErrorValue(error, redun.scheduler.Traceback.from_error(error))
    assert pickle_dumps(ours) == redun.utils.pickle_dumps(theirs)
    assert ours.get_hash() == theirs.get_hash()
    assert repr(ours) == repr(theirs)
    assert list(Traceback.from_error(error).format()) == list(theirs.traceback.format())
    loaded = pickle_loads(pickle_dumps(ours))
    assert list(loaded.traceback.format()) == list(theirs.traceback.format())
    with pytest.raises(TypeError, match="exception"):
        ErrorValue("no")  # type: ignore[arg-type]  # what is refused


def test_frames_of_tasks() -> None:
    class Job:
        """A job as a frame sees it."""

        id = "0123456789abcdef"

    code = plain_task.__code__
    traceback = Traceback(
        ValueError("no"),
        [
            aredun.values.Frame(
                code.co_filename,
                code.co_firstlineno,
                "plain_task",
                {"x": "y" * 300, "long_name": 1},
                job=Job(),
            )
        ],
        logs=["last\n"],
    )
    lines = "".join(pickle_loads(pickle_dumps(traceback)).format())
    assert 'Job 01234567: File "' in lines
    assert "def plain_task(x: int) -> int:" in lines
    assert "long_name = 1" in lines
    assert lines.endswith("ValueError: no\nLatest logs:\nlast\n")
