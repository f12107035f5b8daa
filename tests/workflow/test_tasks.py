"""Tasks: the decorator, lazy calls, options, and hashes and bytes that are redun's."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redun
import redun.scheduler
import redun.task
import redun.utils
import redun.value

from aredun import CacheCheckValid, CacheScope, File, UsageError, task
from aredun.values import get_type_registry, pickle_dumps, pickle_loads
from aredun.values.expressions import SimpleExpression, TaskExpression
from aredun.workflow import operators
from aredun.workflow.root import root_task
from aredun.workflow.tasks import Task, get_default_arguments, get_task_registry

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

redun_namespace = "test_tasks"

MODULE = '''
from {engine} import task, File

redun_namespace = "both"


@task()
def plain(x: int, y: int = 2) -> int:
    """Document."""
    return x + y


@task(version="3", name="renamed", namespace="elsewhere")
def versioned(x):
    return x


@task(hash_includes=["a", 1], cache=False, limits=["db"])
def included(*args, **kwargs):
    def inner():
        return 1

    return inner()


@task(cache=True, check_valid="shallow")
async def awaiting(x):
    return x


@task
def bare(x):
    return x


@task(compat=["0123456789012345678901234567890123456789"])
def compatible():
    pass
'''


def load_module(folder: Path, engine: str) -> ModuleType:
    """Import the same module with its tasks from one of the two engines."""
    path = folder / f"module_of_{engine}.py"
    path.write_text(MODULE.format(engine=engine))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, ModuleType]:
    """The same tasks, made by aredun and by redun."""
    folder = tmp_path_factory.mktemp("modules")
    return load_module(folder, "aredun"), load_module(folder, "redun")


NAMES = ["plain", "versioned", "included", "awaiting", "bare", "compatible"]


@task()
def add(a: int, b: int = 10) -> int:
    """Add two numbers."""
    return a + b


@task(nout=2)
def pair() -> tuple[int, str]:
    """Return two things."""
    return 1, "b"


@pytest.mark.parametrize("name", NAMES)
def test_hash_and_bytes_are_reduns(modules: tuple[ModuleType, ModuleType], name: str) -> None:
    own, original = (getattr(module, name) for module in modules)
    assert own.fullname == original.fullname
    assert own.hash == original.hash
    assert own.source == original.source
    assert pickle_dumps(own) == redun.utils.pickle_dumps(original)


@pytest.mark.parametrize("name", NAMES)
def test_hash_with_options_is_reduns(modules: tuple[ModuleType, ModuleType], name: str) -> None:
    own, original = (getattr(module, name) for module in modules)
    options: dict[str, Any] = {
        "limits": {"db": 2},
        "tags": [["a", 1]],
        "check_valid": "shallow",
        "cache": True,
    }
    assert own.options(**options).hash == original.options(**options).hash
    assert own.update_context({"a": {"b": 1}}, c=2).hash == original.update_context({"a": {"b": 1}}, c=2).hash


@pytest.mark.parametrize("name", NAMES)
def test_call_is_hashed_and_pickled_as_reduns(modules: tuple[ModuleType, ModuleType], name: str) -> None:
    own, original = (getattr(module, name) for module in modules)

    def call(plain: Any, one: Any) -> Any:
        nested = [plain(7, [plain(1), {"k": plain(2)}]), plain(8, y=plain(3)[0] + 1)]
        return one.options(limits=["db"])(*[nested] * (name != "compatible"))

    calls = [call(module.plain, one) for module, one in zip(modules, (own, original), strict=True)]
    assert get_type_registry().get_hash(calls[0]) == redun.value.get_type_registry().get_hash(calls[1])
    assert pickle_dumps(calls[0]) == redun.utils.pickle_dumps(calls[1])


@pytest.mark.parametrize("operator", ["cond", "catch", "catch_all", "throw", "apply_tags", "merge_handles"])
def test_operators_have_reduns_hashes(operator: str) -> None:
    assert getattr(operators, operator).hash == getattr(redun.scheduler, operator).hash


def test_root_task_has_reduns_hash() -> None:
    assert root_task.hash == redun.scheduler.root_task.hash
    assert root_task.fullname == redun.scheduler.root_task.fullname


def test_call_is_lazy() -> None:
    call: Any = add(1, b=2)
    assert isinstance(call, TaskExpression)
    assert repr(call) == "test_tasks.add(1, b=2)"
    assert isinstance(call + 1, SimpleExpression)
    assert isinstance(call[0].name, SimpleExpression)


def test_call_of_known_length_unpacks() -> None:
    first, second = pair()
    assert repr(first) == "test_tasks.pair()[0]"
    assert repr(second) == "test_tasks.pair()[1]"


def test_task_pickles_by_name() -> None:
    copy = pickle_loads(pickle_dumps(add))
    assert isinstance(copy, Task)
    assert copy.func is add.func
    assert copy.is_valid()


def test_later_task_of_a_name_replaces_the_earlier() -> None:
    def define(version: str) -> Task[..., Any]:
        @task(version=version)
        def again() -> int:
            return 1

        return again

    first, second = define("1"), define("2")
    assert get_task_registry().get("test_tasks.again") is second
    assert first.hash not in get_task_registry().task_hashes
    assert second.hash in get_task_registry().task_hashes


def test_options_are_checked_and_kept_apart() -> None:
    changed = add.options(cache=False, check_valid="shallow")
    assert changed.get_task_option("cache_scope") is CacheScope.CSE
    assert changed.get_task_option("check_valid") is CacheCheckValid.SHALLOW
    assert add.get_task_options() == {}
    with pytest.raises(ValueError, match="sometimes"):
        add.options(check_valid="sometimes")


def test_async_task_needs_no_options() -> None:
    @task()
    async def fetch(path: str) -> File:
        return File(path)

    assert fetch.is_async()
    assert fetch.get_task_options() == {}


def test_partial_task() -> None:
    assert repr(add.partial(1)(b=2)) == repr(add(1, b=2))


@pytest.mark.parametrize(
    ("args", "kwargs", "defaults"),
    [
        ((), {}, {"b": 10}),
        ((1,), {}, {"b": 10}),
        ((1, 2), {}, {}),
        ((), {"b": 3}, {}),
        ((), {"a": 1}, {"b": 10}),
    ],
)
def test_default_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], defaults: dict[str, Any]) -> None:
    assert get_default_arguments(add, args, kwargs) == defaults


def test_function_without_source_is_an_error() -> None:
    scope: dict[str, Any] = {}
    exec("def typed_in(): return 1", scope)
    with pytest.raises(UsageError, match="cannot find the source of typed_in"):
        task(namespace="test_tasks")(scope["typed_in"])
    typed_in = task(namespace="test_tasks", source="def typed_in(): return 1")(scope["typed_in"])
    assert typed_in.source == "def typed_in(): return 1"
