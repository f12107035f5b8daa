"""Workflows of every shape, run by real redun, whose dataflow is compared."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from redun import File, Scheduler, script, task
from redun.functools import apply_func, map_, seq, zip_
from redun.scheduler import catch, cond, subrun  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

redun_namespace = "dataflow_shapes"


@task(version="1")
def add(left: int, right: int = 100) -> int:
    """Return a sum; the second argument has a default."""
    return left + right


@task(version="1")
def keep(value: Any) -> Any:
    """Hand a value on."""
    return value


@task(version="1")
def pass_on(value: Any) -> Any:
    """Hand a value on through a child: routing."""
    return keep(value)


@task(version="1")
def split(text: str) -> dict[str, str]:
    """Return several values in one container."""
    return {"head": text[:1], "tail": text[1:]}


@task(version="1")
def join(*parts: str, sep: str = "-") -> str:
    """Return one text of several: variadic."""
    return sep.join(str(part) for part in parts)


@task(version="1")
def double(number: int) -> int:
    """Return twice a number."""
    return 2 * number


@task(version="1")
def total(numbers: list[int]) -> int:
    """Return the sum of a list."""
    return sum(numbers)


@task(version="1")
def fail(number: int) -> int:
    """Fail."""
    raise ValueError(f"no {number}")


@task(version="1")
def recover(error: Exception) -> str:
    """Return what went wrong."""
    return f"recovered from {type(error).__name__}"


@task(version="1")
def count_down(number: int) -> int:
    """Recurse."""
    return cond(number > 0, add(count_down(number - 1), 1), 0) if number > 0 else 0


@task(version="1")
def make_file(path: str, text: str) -> File:
    """Write a file."""
    file = File(path)
    file.write(text)
    return file


@task(version="1")
def read_files(files: list[File], names: tuple[str, ...]) -> dict[str, str]:
    """Read files out of a list."""
    return {name: str(file.read()) for name, file in zip(names, files, strict=True)}


@task(version="1", check_valid="shallow")
def shallow(number: int) -> Any:
    """Hide its children behind a shallow cache hit."""
    return add(double(number), right=double(number + 1))


@task(version="1", prov=False)
def unrecorded(number: int) -> int:
    """Leave no call node."""
    return number + 7


@task(version="1")
def shout(text: str) -> Any:
    """Run a script."""
    return script(f"echo {text}")


@task(version="1")
def nested(depth: int, value: Any) -> Any:
    """Hand a value through a tower of calls."""
    return nested(depth - 1, value) if depth else keep(value)


@task(version="1")
def main_simple(number: int = 3) -> Any:
    """Chain calls, with defaults and keyword arguments."""
    return add(add(number), right=add(right=2, left=1))


@task(version="1")
def main_routing(value: str = "routed") -> list[str]:
    """Route values down and up."""
    made = keep(value)
    return [pass_on(made), pass_on(value), nested(4, made), nested(2, "constant")]


@task(version="1")
def main_merge() -> Any:
    """Let one value flow two ways that meet again."""
    start = add(1, 2)
    return total([double(start), add(start, start), double(add(start, 1))])


@task(version="1")
def main_containers() -> dict[str, Any]:
    """Take containers apart and put others together."""
    parts = split("hello")
    again = {"whole": parts, "head": [parts["head"]], "pair": (keep(parts["tail"]), {"deep": parts})}
    return {"joined": join(parts["head"], parts["tail"], sep=keep("+")), "again": keep(again)}


@task(version="1")
def main_map(count: int = 6) -> dict[str, Any]:
    """Map tasks over lists."""
    mapped = map_(double, list(range(count)))
    doubled = [double(number) for number in range(count)]
    return {"map": total(mapped), "list": total(doubled), "equal": [add(1, 1), add(1, 1), add(2, 0)]}


@task(version="1")
def main_recursion() -> Any:
    """Recurse a little."""
    return add(count_down(4), count_down(2))


@task(version="1")
def main_errors() -> list[Any]:
    """Catch errors."""
    return [catch(fail(1), ValueError, recover), catch(add(1, 1), ValueError, recover)]


@task(version="1")
def main_uncaught() -> list[Any]:
    """Let an error through."""
    return [double(21), add(fail(2), 3)]


@task(version="1")
def main_files(folder: str) -> dict[str, Any]:
    """Hand files about in lists."""
    files = [make_file(f"{folder}/file_{index}.txt", f"text {index}") for index in range(3)]
    one = make_file(f"{folder}/one.txt", "one")
    return {"read": read_files(files, ("a", "b", "c")), "files": keep(files), "one": pass_on([one, files[0]])}


@task(version="1")
def main_shallow(number: int = 5) -> list[int]:
    """Call a task that is cached as a whole."""
    return [shallow(number), shallow(shallow(1)), unrecorded(shallow(2)), add(unrecorded(3), 1)]


@task(version="1")
def main_operators() -> Any:
    """Use redun's own operators and scripts."""
    pairs = zip_([1, 2], [add(1, 1), 4])
    return seq([keep(pairs), apply_func(sum, [add(1, 2), 3]), shout("hi"), cond(add(1, 0) == 1, add(5), 9)])


def run_all(backend: Any, folder: Path) -> None:
    """Run every workflow, some of them twice, so that several executions share calls."""
    runs: list[Callable[[], Any]] = [
        main_simple,
        main_simple,
        lambda: main_simple(number=4),
        main_routing,
        lambda: main_routing("constant"),
        main_merge,
        main_containers,
        main_map,
        lambda: main_map(count=3),
        main_recursion,
        main_errors,
        main_uncaught,
        lambda: main_files(str(folder)),
        lambda: main_files(str(folder)),
        main_shallow,
        main_shallow,
        main_operators,
    ]
    for run in runs:
        with contextlib.suppress(ValueError):
            Scheduler(backend=backend).run(run())
