"""The rooms of the house: every arrow goes down, and no two files need each other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aredun.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "aredun"

# From the top down. A room imports from rooms that stand lower; those on one line know nothing of each other.
# A room is a folder, or a file where that is all there is; CONTRIBUTING.md says what lives there.
ROOMS = (
    ("aredun", "__main__"),
    ("cli", "testing"),
    ("server", "redun_bridge"),
    ("bridge", "scheduler", "tasks"),
    ("workflow",),
    ("backend",),
    ("lifecycle", "query", "sync", "serializers"),
    ("recording", "transfer", "search", "dataflow"),
    ("storage",),
    ("models",),
    ("tables",),
    ("values", "config"),
    ("formats", "loop"),
    ("errors",),
)
LEVELS = {room: len(ROOMS) - level for level, rooms in enumerate(ROOMS) for room in rooms}

# What decides and never talks to a database.
PURE = {"values", "config", "formats", "loop", "errors"}
# Files of a room with a database that are pure all the same.
PURE_FILES = {
    f"aredun.dataflow.{name}"
    for name in ("nodes", "steps", "frontier", "policy", "naming", "sections", "render", "dom")
}
DRIVERS = {"sqlalchemy", "aiosqlite", "asyncpg", "alembic", "sqlite3"}

# What talks to people asks the rooms below: it makes no statement of its own, and reads no rows.
EDGES = {"cli", "server"}
ROW_READERS = {"aredun.storage.reads", "aredun.storage.recorded"}

# Arrows that only a type checker follows may go up: the caller hands itself over.
UPWARD_TYPES = {
    ("dataflow", "backend"): "walkers are functions that take a backend, as redun's are",
}

# Only these may name a dialect; everything else asks them.
DIALECT_ROOMS = {"tables", "storage", "config"}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str:
    """Return the room that a module of aredun's lives in."""
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else parts[0]
    if room not in LEVELS:
        pytest.fail(f"{module} has no room: give it one in tests/test_architecture.py")
    return room


def iter_nodes(tree: ast.AST, *, typed: bool = False) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run; with `typed` those that only a type checker reads, too."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            stack.extend(node.orelse)
            if typed:
                stack.extend(node.body)
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def imported_modules(path: Path, *, typed: bool = False) -> set[str]:
    """Return the full names of all modules that a file imports."""
    imported: set[str] = set()
    for node in iter_nodes(ast.parse(path.read_text()), typed=typed):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                imported.add(full if full in MODULES else node.module)
    return imported


def own_imports(module: str, *, typed: bool = False) -> set[str]:
    """Return the modules of aredun's that one of them imports."""
    names = imported_modules(MODULES[module], typed=typed)
    return {name for name in names if name.split(".")[0] == "aredun" and name != module}


def find_upward(*, typed: bool) -> set[tuple[str, str]]:
    """Return the imports of a room that stands higher than the importing one, or beside it."""
    return {
        (module, name)
        for module in MODULES
        for name in own_imports(module, typed=typed)
        if room_of(name) != room_of(module) and LEVELS[room_of(name)] >= LEVELS[room_of(module)]
    }


def test_imports_go_down() -> None:
    """No room imports from one that stands higher, or beside it."""
    assert find_upward(typed=False) == set()


def test_types_go_down() -> None:
    """What only a type checker follows goes down too, but for the arrows of a table."""
    upward = find_upward(typed=True)
    assert {pair for pair in upward if tuple(map(room_of, pair)) not in UPWARD_TYPES} == set()


def test_the_upward_arrows_are_needed() -> None:
    """An arrow that nobody takes any more is taken out of the table."""
    taken = {
        (room_of(module), room_of(name)) for module in MODULES for name in own_imports(module, typed=True)
    }
    assert UPWARD_TYPES.keys() <= taken


def find_circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the files that need each other, group by group."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for name in arrows.get(stack.pop(), set()) - seen:
                seen.add(name)
                stack.append(name)
        return seen

    reached = {module: reach(module) for module in arrows}
    circles = {
        tuple(sorted(other for other in reached[module] if module in reached.get(other, set())))
        for module in arrows
        if module in reached[module]
    }
    return [list(circle) for circle in sorted(circles)]


def test_no_two_files_need_each_other() -> None:
    """Whichever is read first, what it needs has been read before."""
    assert find_circles({module: own_imports(module) for module in MODULES}) == []


def test_circles_are_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert find_circles(arrows) == [["a", "b", "c"]]


def test_no_two_files_know_each_other() -> None:
    """Not even by the types that only a checker reads."""
    assert find_circles({module: own_imports(module, typed=True) for module in MODULES}) == []


def test_models_have_their_names_to_themselves() -> None:
    """A class that is called like a table says so in its module's docstring, as its name is fixed."""
    names = {mapper.class_.__name__ for mapper in Base.registry.mappers}
    silent = {
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for tree in [ast.parse(path.read_text())]
        if room_of(module) != "models" and "`aredun.models`" not in (ast.get_docstring(tree) or "")
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in names
    }
    assert silent == set()


def is_schema(module: str, node: ast.ClassDef) -> bool:
    """Tell whether a class is one of the server's schemas: `Answer`, or what derives from it."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return room_of(module) == "server" and bool(bases - {"Exception", "NamedTuple"})


def test_classes_have_names_of_their_own() -> None:
    """One word means one thing; the server's schemas tell of the others, and some names are redun's."""
    fixed = {mapper.class_.__name__ for mapper in Base.registry.mappers} | {"RedunBackendDb", "Scheduler"}
    named = [
        node.name
        for module, path in MODULES.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name not in fixed and not is_schema(module, node)
    ]
    assert {name for name, count in Counter(named).items() if count > 1} == set()


def packages_of(module: str) -> set[str]:
    """Return the packages that a module imports at run time."""
    return {name.split(".")[0] for name in imported_modules(MODULES[module])}


def test_pure_rooms_do_not_know_the_database() -> None:
    """They decide; they never talk to a database driver."""
    pure = [module for module in MODULES if room_of(module) in PURE or module in PURE_FILES]
    assert [module for module in pure if packages_of(module) & DRIVERS] == []


def test_the_edges_make_no_statements() -> None:
    """The command and the server import no SQLAlchemy, and nothing that takes a statement."""
    edges = [module for module in MODULES if room_of(module) in EDGES]
    assert len(edges) > 40
    assert [
        module for module in edges if packages_of(module) & DRIVERS or own_imports(module) & ROW_READERS
    ] == []


def test_only_the_bridge_imports_redun() -> None:
    """redun is never needed at run time."""
    assert [module for module in MODULES if "redun" in packages_of(module)] == ["aredun.redun_bridge"]


def test_dialects_are_named_in_few_rooms() -> None:
    """Differences between sqlite and PostgreSQL live in the storage rooms."""
    naming = {
        module
        for module in MODULES
        if room_of(module) not in DIALECT_ROOMS
        for node in iter_nodes(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Constant) and node.value in ("sqlite", "postgresql")
    }
    assert naming == set()


def test_every_room_is_on_the_page() -> None:
    """The architecture page has a row for each room, and no other; so has its picture."""
    page = (PACKAGE.parent / "docs" / "explanation" / "architecture.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    rooms = [name for cell in cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
    assert sorted(rooms) == sorted(LEVELS.keys() - {"aredun", "__main__"})
    picture = (PACKAGE.parent / "docs" / "pictures" / "rooms.svg").read_text()
    drawn = [
        name
        for text in re.findall(r">([^<]+)</text>", picture)
        for name in re.findall(r"(\w+)(?:/|\.py)", text)
    ]
    assert sorted(drawn) == sorted(rooms)


def test_each_folder_has_tests_of_its_name() -> None:
    """Whoever knows a room finds its tests."""
    folders = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert [name for name in folders if not list(Path(__file__).parent.glob(f"{name}/test_*.py"))] == []


def test_package_init_defines_nothing() -> None:
    """`aredun/__init__.py` hands names on."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [
        node.name
        for node in tree.body
        if isinstance(node, definitions) and node.name not in ("__getattr__", "__dir__")
    ]


def count_lines(tree: ast.AST, last: int, first: int = 1) -> int:
    """Return the number of lines of a piece of code, those of the docstrings in it left out."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    ]
    return last - first + 1 - sum((node.end_lineno or 0) - node.lineno + 1 for node in docstrings)


def find_long(folder: Path) -> list[str]:
    """Return the files, classes and functions that are longer than a reader keeps in mind."""
    limits = {ast.ClassDef: 300, ast.FunctionDef: 50, ast.AsyncFunctionDef: 50}
    long = []
    for path in folder.rglob("*.py"):
        tree = ast.parse(text := path.read_text())
        if count_lines(tree, len(text.splitlines())) > 500:
            long.append(path.name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                count_lines(node, node.end_lineno or 0, node.lineno) > limits[type(node)]
            ):
                long.append(f"{path.name}: {node.name}")
    return long


@pytest.mark.parametrize("folder", ["aredun", "tests", "benchmarks"])
def test_nothing_is_long(folder: str) -> None:
    """Files have at most 500 lines, classes 300, functions 50, without their docstrings."""
    assert find_long(PACKAGE.parent / folder) == []


def test_what_is_long_is_found(tmp_path: Path) -> None:
    """Docstrings count for nothing, however many lines they have."""
    documented = 'def told():\n    """Told.\n' + "\n" * 50 + '    """\n'
    long = "def long():\n" + "    pass\n" * 50
    (tmp_path / "made.py").write_text(documented + long)
    assert find_long(tmp_path) == ["made.py: long"]


def test_the_door_is_one_class_that_delegates() -> None:
    """`aredun/backend.py` defines `RedunBackendDb`, with no bases, and its methods are a few lines each."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    (door,) = (
        node
        for node in ast.parse(MODULES["aredun.backend"].read_text()).body
        if isinstance(node, definitions)
    )
    assert isinstance(door, ast.ClassDef)
    assert (door.name, door.bases) == ("RedunBackendDb", [])
    long = [
        method.name
        for method in door.body
        if isinstance(method, definitions)
        and sum(len(ast.unparse(line).splitlines()) for line in method.body[1:]) > 10
    ]
    assert not long
