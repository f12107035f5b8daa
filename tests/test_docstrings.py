"""Public docstrings are numpydoc and true: parameters, results, errors, and what of redun they mirror.

The public names are those of the pages in docs/reference/api, where tests/test_docs_site.py has all that
doors hand on, and those that `aredun.backend` has beside its class, as redun's module has.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import griffe

from tests.support.dependencies import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

# What has the name of something in these is what the contract says that aredun has of redun.
MIRRORED = [
    "redun.backends.db",
    *(f"redun.backends.db.{name}" for name in ("dataflow", "query", "serializers")),
]
MIRRORING_PAGES = {"backend", "dataflow", "errors", "models", "query", "transfer"}
# Where else something of redun may be that a docstring names.
OTHERS = [
    *("redun.bcoding", "redun.cli", "redun.config", "redun.expression", "redun.file", "redun.handle"),
    *("redun.hashing", "redun.namespace", "redun.scheduler", "redun.scheduler_config", "redun.scripting"),
    *("redun.tags", "redun.task", "redun.utils", "redun.value"),
]
MIRRORS = re.compile(r"[Mm]irrors\s+redun's\s+(?:`([\w.]+)`)?")
# Numbers of such names say what they count.
UNITS = {
    re.compile(r"(timeout|interval|delay|seconds)\b"): re.compile(r"second", re.IGNORECASE),
    re.compile(r"(size|length|bytes)\b"): re.compile(r"byte|character|edge|item|record|row", re.IGNORECASE),
}
STREAMS = re.compile(r"(?:Async)?(?:Iterator|Generator|Iterable)\[")


@cache
def load() -> griffe.Module:
    """Return the package as the site's generator reads it."""
    package = griffe.load("aredun", search_paths=[CHECKOUT], docstring_parser="numpy")
    assert isinstance(package, griffe.Module)
    return package


def get_names() -> list[tuple[str, str]]:
    """Return the public names, each with its page of the reference."""
    pages = (CHECKOUT / "docs" / "reference" / "api").glob("*.md")
    names = [
        (page.stem, name) for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    assert len(names) > 90
    door = import_module("aredun.backend")
    beside = [getattr(door, name) for name in door.__all__]
    names += [("backend", f"{each.__module__}.{each.__qualname__}") for each in beside]
    return list({name: page for page, name in names}.items())


def walk(thing: Any) -> Iterator[Any]:
    """Yield a thing and, of a class or module, the public ones that it defines."""
    if not thing.is_module:
        yield thing
    if thing.is_class or thing.is_module:
        for name, member in thing.members.items():
            if name.startswith("_") or member.is_alias or member.is_module:
                continue
            if not member.is_attribute or "property" in member.labels:
                yield from walk(member)


def get_public() -> list[tuple[str, Any]]:
    """Return all that is public, each with its page."""
    return [
        (page, thing) for name, page in get_names() for thing in walk(load()[name.removeprefix("aredun.")])
    ]


def find_in_redun(path: str, modules: list[str]) -> Any:
    """Return what has a path in one of redun's modules, None for nothing."""
    for module in modules:
        found: Any = import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name, None)
        if found is not None:
            return found
    return None


@cache
def parse(path: str) -> dict[int, ast.AST]:
    """Return the functions of a file by the line of their name."""
    tree = ast.parse((CHECKOUT / path).read_text())
    return {n.lineno: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def get_raised(function: Any) -> set[str]:
    """Return the names of the errors that stand in `raise NAME(...)` in a function's own lines."""
    lines = range(function.lineno, function.endlineno + 1)
    (node,) = [each for line, each in parse(str(function.filepath)).items() if line in lines][:1]
    inner = [
        n for n in ast.walk(node) if n is not node and isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    hidden = {id(each) for child in inner for each in ast.walk(child)}
    raises = [n for n in ast.walk(node) if isinstance(n, ast.Raise) and id(n) not in hidden]
    calls = [each.exc for each in raises if isinstance(each.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name) and call.func.id[0].isupper()}


def get_sections(thing: Any) -> dict[str, list[Any]]:
    """Return the items of the docstring's sections, as they are written: no type comes from the signature."""
    if thing.docstring is None:
        return {}
    with_init = [thing.docstring]
    init = thing.members.get("__init__") if thing.is_class else None
    if init is not None and init.docstring is not None:
        with_init.append(init.docstring)
    sections = [each for one in with_init for each in griffe.Docstring(one.value, parser="numpy").parse()]
    return {each.kind.value: each.value for each in sections if isinstance(each.value, list)}


def get_parameters(thing: Any) -> list[str]:
    """Return what a callable takes, without `self`; of a named tuple and a table, what it has."""
    if not thing.is_class:
        names = [each.name for each in thing.parameters if each.name not in ("self", "cls")]
        # The scheduler gives its own operators these and the call: whoever calls one leaves them out.
        return names[3:] if names[:2] == ["evaluator", "scope"] else names
    if "__tablename__" in thing.members:
        return list(vars(import_module(thing.module.path))[thing.name].__table__.columns.keys())
    bases = [str(base) for base in thing.bases]
    if any("NamedTuple" in base for base in bases):
        fields = [name for name, each in thing.members.items() if each.is_attribute]
        return [name for name in fields if "property" not in thing.members[name].labels]
    if any("Enum" in base for base in bases):
        return []
    made = thing.members["__new__"] if "__new__" in thing.members else thing
    return [each.name for each in made.parameters if each.name not in ("self", "cls") and each.name[0] != "_"]


def overrides(thing: Any) -> bool:
    """Tell whether a method stands for one of a base class, which says what goes in and comes out."""
    if not thing.parent.is_class:
        return False
    owner = vars(import_module(thing.module.path))[thing.parent.name]
    return any(thing.name in vars(base) for base in owner.__mro__[1:])


def find_faults(page: str, thing: Any) -> Iterator[str]:
    """Yield what is missing or untrue in a docstring."""
    text = thing.docstring.value if thing.docstring else ""
    if not text:
        yield "no docstring"
        return
    sections = get_sections(thing)
    if thing.is_attribute:
        return
    wanted = get_parameters(thing)
    documented = sections.get("parameters") or (sections.get("attributes", []) if wanted else [])
    if not documented and overrides(thing):
        return
    path = thing.path.removeprefix(f"{thing.module.path}.")
    if page in MIRRORING_PAGES and find_in_redun(path, MIRRORED) and path not in MIRRORS.findall(text):
        yield f"mirrors redun's `{path}`"
    names = [name.lstrip("*") for each in documented for name in each.name.split(", ")]
    if sorted(names) != sorted(wanted):
        yield f"parameters: {wanted}, documented: {names}"
    if untyped := [each.name for each in documented if str(each.annotation or "") in ("", "optional")]:
        yield f"no types of {untyped}"
    if undescribed := [each.name for each in documented if not each.description]:
        yield f"nothing about {undescribed}"
    for unit, words in UNITS.items():
        numbers = [e for e in documented if unit.search(e.name) and re.match("int|float", str(e.annotation))]
        if bare := [each.name for each in numbers if not words.search(each.description)]:
            yield f"no unit of {bare}"
    if thing.is_function:
        needed = {each.name for each in thing.parameters if each.required}
        if optional := [e.name for e in documented if e.name in needed and "optional" in str(e.annotation)]:
            yield f"not optional: {optional}"
        yield from find_faults_of_results(thing, sections)


def find_faults_of_results(function: Any, sections: dict[str, list[Any]]) -> Iterator[str]:
    """Yield what is missing about what a function gives back and raises."""
    returns = str(function.returns or "None")
    section = "returns"
    if STREAMS.match(returns) and ("yield" in "".join(function.lines) or "async" in function.labels):
        section = "yields"
    if returns not in ("None", "NoReturn") and "[None]" not in returns and section not in sections:
        yield f"{section}: {returns}"
    raised = {str(each.annotation) for each in sections.get("raises", [])}
    if missing := get_raised(function) - raised:
        yield f"raises: {sorted(missing)}"


def test_public_docstrings_tell_types_results_errors_and_source() -> None:
    faults = [f"{thing.path}: {fault}" for page, thing in get_public() for fault in find_faults(page, thing)]
    assert faults == [], "\n" + "\n".join(faults)


def test_errors_that_docstrings_name_are_there() -> None:
    errors = {**vars(builtins), **vars(import_module("aredun.errors"))}
    named = [
        (thing.path, each) for _, thing in get_public() for each in get_sections(thing).get("raises", [])
    ]
    assert [path for path, each in named if str(each.annotation) not in errors] == []


def test_private_helpers_are_told_in_one_line() -> None:
    long = [
        f"{source.relative_to(CHECKOUT)}: {node.name}"
        for source in sorted((CHECKOUT / "aredun").rglob("*.py"))
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.name.startswith("_")
        and not node.name.endswith("__")
        and "\n" in (ast.get_docstring(node) or "")
    ]
    assert long == []


def test_what_the_package_says_that_it_mirrors_is_in_redun() -> None:
    sources = sorted((CHECKOUT / "aredun").rglob("*.py"))
    said = {name for source in sources for name in MIRRORS.findall(source.read_text())}
    assert len(said) > 200
    assert (
        sorted(name for name in said if not name or find_in_redun(name, [*MIRRORED, *OTHERS]) is None) == []
    )
