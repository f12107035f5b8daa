"""No private name of another package: whoever owns it may change it from one release to the next."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import aiosqlite
import pytest
from redun.backends.db import RedunBackendDb as OriginalBackend

from aredun.cli.tables import format_traceback
from aredun.recording.call_rows import find_upstream_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PATHS = sorted([*ROOT.glob("aredun/**/*.py"), *ROOT.glob("migrations/**/*.py")])

# Documented by Python, underscore and all: those of named tuples, and the exit of a process.
DOCUMENTED = {"_replace", "_make", "_asdict", "_fields", "_exit"}


class Exemption(NamedTuple):
    """A private name that is not ours, for which there is no other way."""

    reason: str
    # What finds out whether it is there, and what happens where it is not.
    probe: str
    fallback: str


# The one list of what has no public way.
NO_OTHER_WAY = {
    "_upstreams": Exemption(
        reason="redun's lazy expressions keep their lineage there and say it nowhere else (contract.md)",
        probe="getattr(expression, '_upstreams', None) for each expression",
        fallback="the parts of the expression are looked through instead, as of any container",
    ),
    "_line": Exemption(
        reason="redun's stored failures hold the source of each frame under that name",
        probe="getattr(frame, '_line', None) for each frame of the stand-in that is shown",
        fallback="the frame is shown without its line of source",
    ),
    "_lines": Exemption(
        reason="failures that Python 3.13 stored hold the source of each frame under that name",
        probe="getattr(frame, '_lines', None) for each frame of the stand-in that is shown",
        fallback="the frame is shown without its line of source",
    ),
}

# Our own objects have these too.
OUR_OWN_TOO = {"_upstreams"}

# Private attributes of our own that another object of ours may use: one class, or one module, in two objects.
SHARED = {
    # A backend and its clone, a configuration and a section, a database and another one.
    "_lifecycle",
    "_is_clone",
    "_is_shared",
    "_with_db_uri",
    "_identify",
    # Records of queries.
    "_keep_status",
    # Expressions and tasks of aredun's own, whose names are those of redun's.
    "_export_options",
    "_options",
    "_task_options_base",
    "_task_options_override",
    "_hash_includes",
    "_calc_hash",
    # A file's own hash, where it is known already.
    "_hash",
    # Stand-ins of previews.
    "_preview_args",
    "_preview_global",
    "_preview_items",
    "_preview_pairs",
    "_preview_state",
}

# Modules whose classes are for deriving from, and say so for their private names too.
STANDARD = ("builtins", "typing", "abc", "enum", "collections")

# No underscore, and private all the same: what earlier versions took from SQLAlchemy.
FORBIDDEN = {"positiontup", "class_manager"}


def is_private(name: str) -> bool:
    """Tell whether a name is private by its underscore; `_` alone and `__x__` are not."""
    return name.startswith("_") and name.strip("_") != "" and not name.endswith("__")


@dataclass
class ClassNames:
    """The private names that a class defines, and the names of its bases."""

    path: Path
    bases: list[str]
    defined: set[str] = field(default_factory=set)


def iter_targets(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a statement assigns to."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        yield node.target


def read_class(path: Path, node: ast.ClassDef) -> ClassNames:
    """Read the private names that a class really defines; a mere annotation does not define any."""
    names = ClassNames(path, [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases])
    is_record = bool(node.decorator_list) or "NamedTuple" in names.bases
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.defined.add(item.name)
        for target in iter_targets(item):
            if isinstance(target, ast.Name) and (is_record or getattr(item, "value", None) is not None):
                names.defined.add(target.id)
                if target.id == "__slots__":
                    names.defined.update(re.findall(r"'(_\w+)'", ast.unparse(item)))
    for inner in ast.walk(node):
        for target in iter_targets(inner):
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) in ("self", "cls"):
                names.defined.add(target.attr)
    names.defined = set(filter(is_private, names.defined))
    return names


TREES = {path: ast.parse(path.read_text()) for path in PATHS}
CLASSES: dict[str, list[ClassNames]] = {}
for _path, _tree in TREES.items():
    for _node in ast.walk(_tree):
        if isinstance(_node, ast.ClassDef):
            CLASSES.setdefault(_node.name, []).append(read_class(_path, _node))


@functools.cache
def find_family(name: str, *, upwards: bool) -> frozenset[str]:
    """Return the names of a class and of all classes of ours above it, or below it."""
    found: set[str] = set()
    stack = [name]
    while stack:
        current = stack.pop()
        if current in found or current not in CLASSES:
            continue
        found.add(current)
        if upwards:
            stack += [base for each in CLASSES[current] for base in each.bases]
        else:
            stack += [other for other, every in CLASSES.items() for each in every if current in each.bases]
    return frozenset(found)


@functools.cache
def list_defined(classes: frozenset[str]) -> set[str]:
    """Return the private names that classes define."""
    return {name for each in classes for names in CLASSES[each] for name in names.defined}


def iter_nodes(tree: ast.AST, owner: str | None = None) -> Iterator[tuple[ast.AST, str | None]]:
    """Yield all nodes with the name of the class that they are in."""
    for child in ast.iter_child_nodes(tree):
        yield child, owner
        yield from iter_nodes(child, child.name if isinstance(child, ast.ClassDef) else owner)


def is_ours(name: str, base: str, owner: str | None) -> bool:
    """Tell whether an attribute of an object is one of our own."""
    if base in ("self", "cls", "super()") and owner is not None:
        above = find_family(owner, upwards=True)
        if base == "super()":
            return name in list_defined(above - {owner})
        # A mixin uses what the class that it is mixed into defines, or another mixin of it.
        below = find_family(owner, upwards=False)
        family = frozenset(each for one in below for each in find_family(one, upwards=True))
        return name in list_defined(family)
    return (name in SHARED and name in list_defined(frozenset(CLASSES))) or (
        base in CLASSES and name in list_defined(frozenset([base]))
    )


ATTRIBUTE_CALLS = {"getattr", "hasattr", "setattr", "delattr", "__setattr__", "attrgetter", "methodcaller"}


def iter_uses(tree: ast.AST) -> Iterator[tuple[int, str, str, str | None]]:
    """Yield each use of a private attribute: line, name, object, class that it is in."""
    for node, owner in iter_nodes(tree):
        if isinstance(node, ast.Attribute) and (is_private(node.attr) or node.attr in FORBIDDEN):
            yield node.lineno, node.attr, ast.unparse(node.value), owner
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func).split(".")[-1]
            if function in ATTRIBUTE_CALLS:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        for name in argument.value.split("."):
                            if is_private(name) or name in FORBIDDEN:
                                yield node.lineno, name, ast.unparse(node.args[0]), owner


def find_foreign(tree: ast.AST) -> list[tuple[int, str, str]]:
    """Return the uses of private attributes that are not ours: line, name, object."""
    return [
        (line, name, base)
        for line, name, base, owner in iter_uses(tree)
        if name not in DOCUMENTED
        and name not in NO_OTHER_WAY
        and (name in FORBIDDEN or not is_ours(name, base, owner))
    ]


def find_imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the private modules, and private names of modules, that a file imports from other packages."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [
            (node.lineno, name)
            for name in names
            if name.split(".")[0] != "aredun" and any(map(is_private, name.split(".")))
        ]
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_names_of_others(path: Path) -> None:
    assert not find_foreign(TREES[path])
    assert not find_imports(TREES[path])


PLANTED = {
    "class Ours(aiosqlite.Connection):\n def f(self): return self._conn": "_conn",
    "class Ours(OriginalScheduler):\n def _run(self): return super()._run()": "_run",
    "class Ours(Base):\n _lock: RLock\n def f(self): return self._lock": "_lock",
    "async def f(connection): await connection._execute(len)": "_execute",
    "def f(driver): return getattr(driver, '_running', None)": "_running",
    "def f(worker): object.__setattr__(worker, '_thread', None)": "_thread",
    "def f(scripts): return scripts._upgrade_revs('head', None)": "_upgrade_revs",
    "def f(compiled): return compiled.positiontup": "positiontup",
    "def f(model): return model.__mapper__.class_manager": "class_manager",
    "def f(parser: argparse._SubParsersAction): pass": "_SubParsersAction",
}


@pytest.mark.parametrize("source", PLANTED)
def test_what_was_there_would_be_found(source: str) -> None:
    assert [name for _, name, _ in find_foreign(ast.parse(source))] == [PLANTED[source]]


@pytest.mark.parametrize(
    "source", ["from sqlalchemy.engine._py_util import x", "from redun.task import _y", "import a._b"]
)
def test_private_imports_would_be_found(source: str) -> None:
    assert len(find_imports(ast.parse(source))) == 1


def test_the_list_is_short_and_used() -> None:
    """Each exemption says why, how it is probed and what happens without it; none is left over."""
    used = {name for tree in TREES.values() for _, name, _, _ in iter_uses(tree)}
    assert set(NO_OTHER_WAY) | SHARED <= used
    assert all(map(all, NO_OTHER_WAY.values()))
    # Nothing of them is asked for without a default.
    for path, tree in TREES.items():
        for line, name, base, owner in iter_uses(tree):
            if name in NO_OTHER_WAY and not is_ours(name, base, owner):
                source = path.read_text().splitlines()[line - 1]
                assert re.search(rf"getattr\(\w+, ['\"]{name}['\"], ", source) or name in OUR_OWN_TOO, source


class Evaluated:
    """What knows the call that it comes from, and no lineage beside it."""

    call_hash = "1" * 40


def test_fallback_of_upstreams() -> None:
    assert find_upstream_calls([Evaluated(), (SimpleNamespace(), {"key": Evaluated()})]) == {"1" * 40}


def test_fallback_of_lines() -> None:
    frame = SimpleNamespace(filename="flow.py", lineno=3, name="main")
    error = SimpleNamespace(traceback=SimpleNamespace(frames=[frame]), error=ValueError("no"))
    shown = "\n".join(format_traceback(error))
    assert 'File "flow.py", line 3, in main' in shown
    assert "ValueError('no')" in shown


BRIDGE = [path for path in PATHS if "bridge" in str(path.relative_to(ROOT))]


@pytest.mark.parametrize("path", BRIDGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_bridge_leaves_the_insides_of_redun_alone(path: Path) -> None:
    """Neither the dictionary of an object nor its mapper: both are how redun happens to be built."""
    refused = {"__dict__", "__mapper__", "__table__", "__wrapped__"}
    nodes = list(ast.walk(TREES[path]))
    assert not [node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr in refused]
    assert not [
        node.lineno for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "vars"
    ]


def test_private_names_of_others_are_known() -> None:
    assert {"_conn", "_execute", "_thread"} <= list_private_of(aiosqlite.Connection)
    assert "_db_lock" in list_private_of(OriginalBackend)


def list_modules() -> list[str]:
    """Return the modules of the package by their names."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PATHS
        if path.is_relative_to(ROOT / "aredun")
    ]


@functools.cache
def read_attributes(path: str) -> dict[str, set[str]]:
    """Return, by the names of the classes in a file, what their methods say after `self.`."""
    text = Path(path).read_text()
    lines = text.splitlines()
    return {
        node.name: set(re.findall(r"self\.(\w+)", "\n".join(lines[node.lineno : node.end_lineno])))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }


@functools.cache
def list_private_of(kind: type) -> set[str]:
    """Return the private names that a foreign class and its objects have."""
    path = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    attributes = read_attributes(path).get(kind.__name__, set()) if path.endswith(".py") else set()
    return set(filter(is_private, {*vars(kind), *attributes}))


@pytest.mark.parametrize("module_name", list_modules())
def test_no_class_hides_a_private_name_of_its_base(module_name: str) -> None:
    """What a class of ours defines is not what its foreign base has under the same name."""
    if module_name.endswith("__main__"):
        return
    hidden = []
    for name, kind in vars(importlib.import_module(module_name)).items():
        if not inspect.isclass(kind) or kind.__module__ != module_name or name not in CLASSES:
            continue
        ours = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("aredun")}
        foreign = [
            base for base in kind.__mro__ if base.__module__.split(".")[0] not in ("aredun", *STANDARD)
        ]
        own = list_defined(frozenset(ours & set(CLASSES)))
        hidden += [
            (name, each, base.__qualname__) for base in foreign for each in own & list_private_of(base)
        ]
    assert not hidden
