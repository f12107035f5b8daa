"""The floors of the house: a room imports only from its own floor or from lower ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "aredun"

PURE, STORAGE, OPERATIONS, DOOR, EDGES = range(1, 6)

FLOORS = {
    # 1: pure decisions, free of the database
    "aredun.errors": PURE,
    "aredun.record_fields": OPERATIONS,
    "aredun.record_parsing": OPERATIONS,
    "aredun.record_checks": OPERATIONS,
    "aredun.bencode": PURE,
    "aredun.describe": PURE,
    "aredun.hashing": PURE,
    "aredun.nested": PURE,
    "aredun.ending": PURE,
    "aredun.values": PURE,
    "aredun.config": PURE,
    "aredun.versions": PURE,
    "aredun.multimap": PURE,
    "aredun.tag_syntax": PURE,
    "aredun.statuses": PURE,
    "aredun.spelling": PURE,
    "aredun.value_sizes": PURE,
    "aredun.dataflow.nodes": PURE,
    "aredun.dataflow.frontier": PURE,
    "aredun.dataflow.keys": PURE,
    "aredun.dataflow.origin": PURE,
    "aredun.dataflow.policy": PURE,
    "aredun.dataflow.steps": PURE,
    "aredun.dataflow.naming": PURE,
    "aredun.dataflow.sections": PURE,
    "aredun.dataflow.render": PURE,
    "aredun.dataflow.dom": PURE,
    "aredun.dataflow.pictures": PURE,
    # 2: tables, engines and stores
    "aredun.column_types": STORAGE,
    "aredun.models": STORAGE,
    "aredun.model_behaviour": STORAGE,
    "aredun.relationships": STORAGE,
    "aredun.database": STORAGE,
    "aredun.migrate": STORAGE,
    "aredun.value_store": STORAGE,
    # 3: operations on an open session
    "aredun.call_rows": OPERATIONS,
    "aredun.recording": OPERATIONS,
    "aredun.caches": OPERATIONS,
    "aredun.tags": OPERATIONS,
    "aredun.handles": OPERATIONS,
    "aredun.entities": OPERATIONS,
    "aredun.serializers": OPERATIONS,
    "aredun.records": OPERATIONS,
    "aredun.lifecycle": OPERATIONS,
    "aredun.verify": OPERATIONS,
    "aredun.sync": OPERATIONS,
    "aredun.query": OPERATIONS,
    "aredun.query_arguments": OPERATIONS,
    "aredun.query_conditions": OPERATIONS,
    "aredun.query_filters": OPERATIONS,
    "aredun.query_pages": OPERATIONS,
    "aredun.query_records": OPERATIONS,
    "aredun.query_scan": OPERATIONS,
    "aredun.query_statements": OPERATIONS,
    "aredun.query_statuses": OPERATIONS,
    "aredun.query_suggestions": OPERATIONS,
    "aredun.identify": OPERATIONS,
    "aredun.job_tree": OPERATIONS,
    "aredun.call_texts": OPERATIONS,
    "aredun.dataflow": OPERATIONS,
    # 4: the door
    "aredun.backend": DOOR,
    # 5: the edges, which only hand things on or talk to people
    "aredun.tasks": EDGES,
    "aredun.scheduler": EDGES,
    "aredun.cli": EDGES,
    "aredun.server": EDGES,
    "aredun.redun_bridge": EDGES,
    "aredun.bridge_core": EDGES,
    "aredun.bridge_calls": EDGES,
    "aredun.loop_thread": EDGES,
    "aredun.write_behind": EDGES,
    "aredun": EDGES,
}

# Only these may name a dialect; everything else asks them.
DIALECT_ROOMS = {"aredun.column_types", "aredun.database", "aredun.config"}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def floor_of(module: str) -> int:
    """Return the floor of the room that a module belongs to."""
    name = module
    while name not in FLOORS or (name == "aredun" and module != "aredun"):
        if "." not in name:
            pytest.fail(f"{module} has no floor: give its room one in tests/test_architecture.py")
        name = name.rpartition(".")[0]
    return FLOORS[name]


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """Return the nodes of a module that run, leaving out what only a type checker reads."""
    found: list[ast.AST] = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            stack.extend(node.orelse)
            continue
        found.append(node)
        stack.extend(ast.iter_child_nodes(node))
    return found


def imported_modules(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports at run time."""
    imported: set[str] = set()
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                imported.add(full if full in MODULES else node.module)
    return imported


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """No room imports from a higher floor."""
    upward = [
        name
        for name in imported_modules(MODULES[module])
        if name.split(".")[0] == "aredun" and floor_of(name) > floor_of(module)
    ]
    assert not upward, f"{module} (floor {floor_of(module)}) imports {upward} from above"


@pytest.mark.parametrize("module", [name for name in MODULES if floor_of(name) == PURE])
def test_pure_rooms_do_not_know_the_database(module: str) -> None:
    """Floor one decides; it never talks to a database driver."""
    forbidden = {"sqlalchemy", "aiosqlite", "asyncpg", "alembic", "sqlite3"}
    assert not {name.split(".")[0] for name in imported_modules(MODULES[module])} & forbidden


@pytest.mark.parametrize("module", [name for name in MODULES if name != "aredun.redun_bridge"])
def test_only_the_bridge_imports_redun(module: str) -> None:
    """redun is never needed at run time."""
    assert "redun" not in {name.split(".")[0] for name in imported_modules(MODULES[module])}


@pytest.mark.parametrize("module", MODULES)
def test_dialects_are_named_in_few_rooms(module: str) -> None:
    """Differences between sqlite and PostgreSQL live in the storage rooms."""
    if any(module == room or module.startswith(room + ".") for room in DIALECT_ROOMS):
        return
    named = {
        node.value
        for node in runtime_nodes(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Constant) and node.value in ("sqlite", "postgresql")
    }
    assert not named, f"{module} names {named}"


def test_package_init_defines_nothing() -> None:
    """`aredun/__init__.py` hands names on."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [
        node.name
        for node in tree.body
        if isinstance(node, definitions) and node.name not in ("__getattr__", "__dir__")
    ]


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
