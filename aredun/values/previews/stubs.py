"""What a preview is made of: named stubs in place of classes and objects, and how each is written."""

from __future__ import annotations

import builtins
import datetime
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.formats.describe import Shown
from aredun.values.namespace import join_fullname
from aredun.values.operations import format_arguments, format_operation
from aredun.values.task_options import CacheCheckValid, CacheResult, CacheScope

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable


_MAX_REASON = 200


class Global(NamedTuple):
    """The name of a class or function that a pickle refers to; never looked up."""

    module: str
    name: str

    def __repr__(self) -> str:
        if self.module == "builtins":
            is_class = isinstance(builtins.__dict__.get(self.name), type)
            return f"<class '{self.name}'>" if is_class else f"<built-in function {self.name}>"
        is_class = self.name.rpartition(".")[2][:1].isupper()
        full_name = f"{self.module}.{self.name}"
        return f"<class '{full_name}'>" if is_class else f"<function {full_name}>"


class Stub:
    """
    An object of a class that is not loaded: its constructor's arguments, its state and its items.

    The attributes of the state can be read. The text is redun's for redun's own classes, and
    `Name(argument, attribute=value)` for all others.
    """

    __slots__ = (
        "_preview_args",
        "_preview_forged",
        "_preview_global",
        "_preview_items",
        "_preview_pairs",
        "_preview_state",
    )

    def __init__(self, name: Global, args: tuple[Any, ...] = (), state: dict[str, Any] | None = None) -> None:
        self._preview_global = name
        self._preview_args = args
        self._preview_forged = False
        self._preview_state: dict[str, Any] = {} if state is None else state
        self._preview_items: list[Any] = []
        self._preview_pairs: dict[Any, Any] = {}

    def __getattr__(self, attr: str) -> Any:
        state = {} if attr.startswith("_preview_") else self._preview_state
        try:
            return state[attr]
        except KeyError:
            raise AttributeError(f"the preview has no attribute {attr!r}") from None

    def __getitem__(self, index: int) -> Any:
        return self._preview_args[index]

    def get_parts(self) -> list[Any]:
        """List everything that the text may show."""
        return [
            *self._preview_args,
            *self._preview_state.values(),
            *self._preview_items,
            *self._preview_pairs.keys(),
            *self._preview_pairs.values(),
        ]

    def __repr__(self) -> str:
        formatter = None if self._preview_forged else _FORMATTERS.get(self._preview_global)
        if formatter is None:
            formatter = _format_exception if _is_exception(self._preview_global) else _format_plain
        try:
            return formatter(self)
        except Exception:
            # A forged state can fail in any way; it is shown as that of an unknown class. It fails but once:
            # each try writes what the object holds, which doubles the work at every level of nesting.
            self._preview_forged = True
            return _format_plain(self)


class PreviewZone(datetime.tzinfo):
    """A time zone that is shown, not loaded; it has no offset."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub

    def __repr__(self) -> str:
        return repr(self.stub)

    def utcoffset(self, dt: datetime.datetime | None) -> None:
        return None

    def dst(self, dt: datetime.datetime | None) -> None:
        return None

    def tzname(self, dt: datetime.datetime | None) -> str:
        return repr(self.stub)


class OpaqueKey:
    """A key of a dict or set that is compared by identity: hashing what it holds could take for ever."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def show_unreadable(error: Exception) -> Shown:
    """Return what stands for bytes that are no complete pickle."""
    return Shown(f"Unpicklable('{(str(error) or type(error).__name__)[:_MAX_REASON]}')")


def _is_exception(name: Global, kind: type[BaseException] = BaseException) -> bool:
    """Tell whether a name is that of one of Python's exceptions, of a kind."""
    found = vars(builtins).get(name.name) if name.module == "builtins" else None
    return isinstance(found, type) and issubclass(found, kind)


def _format_plain(stub: Stub) -> str:
    shown = [*stub._preview_args, *filter(None, (stub._preview_items, stub._preview_pairs))]
    state = (f"{name}={value!r}" for name, value in stub._preview_state.items())
    return f"{stub._preview_global.name}({', '.join((*map(repr, shown), *state))})"


# What templates derive from the state of a stub.
_DERIVED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "_short_hash": lambda state: str(state["hash"] or "")[:8],
    "_fullname": lambda state: join_fullname(state.get("namespace"), state["name"]),
    "_frame_count": lambda state: len(state["frames"]),
    "_arguments": lambda state: format_arguments(state["args"], state["kwargs"]),
    "_operation": lambda state: format_operation(state["func_name"], state["args"], state["kwargs"]),
}


class _Fields(dict[str, Any]):
    """The state of a stub, and what is derived from it: each written only where it is used."""

    def __missing__(self, field: str) -> Any:
        return _DERIVED[field](self)


def _format_state(template: str) -> Callable[[Stub], str]:
    return lambda stub: template.format_map(
        _Fields(stub._preview_state, _class=stub._preview_global.name, _args=stub._preview_args)
    )


def _format_exception(stub: Stub) -> str:
    # An OSError shows no file names.
    args = stub._preview_args[:2] if _is_exception(stub._preview_global, OSError) else stub._preview_args
    return f"{stub._preview_global.name}({', '.join(map(repr, args))})"


def _format_job_info(stub: Stub) -> str:
    shown = ", ".join(f"{name}={value}" for name, value in stub._preview_state.items())
    return f"JobInfo({shown})"


def _format_enum(enumeration: type[enum.Enum]) -> Callable[[Stub], str]:
    return lambda stub: repr(enumeration(stub._preview_args[0]))


def _format_uuid(stub: Stub) -> str:
    return repr(uuid.UUID(int=stub._preview_state["int"]))


def _format_fraction(stub: Stub) -> str:
    if len(stub._preview_args) > 1:
        return _format_plain(stub)
    numerator, _, denominator = str(stub._preview_args[0]).partition("/")
    return f"Fraction({numerator}, {denominator or 1})"


def _format_path(stub: Stub) -> str:
    # Takes texts only: the text of a path within a path would double its backslashes at every level.
    return f"{stub._preview_global.name}({str(PurePosixPath(*stub._preview_args))!r})"


def _format_deque(stub: Stub) -> str:
    limit = f", maxlen={stub._preview_args[1]!r}" if len(stub._preview_args) > 1 else ""
    return f"deque({stub._preview_items!r}{limit})"


def _format_defaultdict(stub: Stub) -> str:
    factory = stub._preview_args[0] if stub._preview_args else None
    return f"defaultdict({factory!r}, {stub._preview_pairs!r})"


def _format_counter(stub: Stub) -> str:
    counts = dict(stub._preview_args[0]) if stub._preview_args else {}
    return f"Counter({dict(sorted(counts.items(), key=lambda item: -item[1]))!r})" if counts else "Counter()"


_TEMPLATES = {
    "redun.file": {
        "File Dir IFile IDir ContentFile ContentDir": "{_class}(path={path}, hash={_short_hash})",
        "StagingFile StagingDir IStagingFile IStagingDir ContentStagingFile ContentStagingDir": (
            "{_class}(local={local!r}, remote={remote!r})"
        ),
        "FileSet IFileSet ContentFileSet": "FileSet(pattern={pattern}, hash={hash})",
        "ShardedS3Dataset": "ShardedS3Dataset(path={path}, format={format}, recurse={recurse}, hash={hash})",
    },
    "redun.handle": {"Handle": "{class_name}(fullname={_fullname}, hash={_short_hash})"},
    "redun.task": {
        "Task SchedulerTask": "Task(fullname={_fullname}, hash={_short_hash})",
        "PartialTask": (
            "PartialTask(fullname={_fullname}, hash={_short_hash}, args={args!r}, kwargs={kwargs!r})"
        ),
    },
    "redun.scheduler": {
        "ErrorValue": "ErrorValue({error!r})",
        "Traceback": "Traceback(error={error!r}, frames={_frame_count})",
        "Thread": "Thread({expr})",
        "Job": "Job(id={id})",
        "Frame": "<FrameSummary file {filename}, line {lineno} in {name}>",
    },
    "redun.value": {"Function": "<function {module}.{name}>"},
    "redun.expression": {
        "ValueExpression": "ValueExpression({value!r})",
        "QuotedExpression": "QuotedExpression({_expr!r})",
        "TaskExpression SchedulerExpression": "{task_name}({_arguments})",
        "SimpleExpression": "{_operation}",
    },
    "zoneinfo": {"ZoneInfo._unpickle": "zoneinfo.ZoneInfo(key={_args[0]!r})"},
    "traceback": {"FrameSummary": "<FrameSummary file {filename}, line {lineno} in {name}>"},
}
_FORMATTERS: dict[tuple[str, str], Callable[[Stub], str]] = {
    (module, name): _format_state(template)
    for module, templates in _TEMPLATES.items()
    for names, template in templates.items()
    for name in names.split()
}
ENUMS: dict[tuple[str, str], type[enum.Enum]] = {
    ("redun.task", each.__name__): each for each in (CacheScope, CacheCheckValid, CacheResult)
}
_FORMATTERS |= {name: _format_enum(each) for name, each in ENUMS.items()}
_FORMATTERS |= {
    ("redun.scheduler", "JobInfo"): _format_job_info,
    ("uuid", "UUID"): _format_uuid,
    ("fractions", "Fraction"): _format_fraction,
    ("collections", "deque"): _format_deque,
    ("collections", "defaultdict"): _format_defaultdict,
    ("collections", "Counter"): _format_counter,
}
_FORMATTERS |= {
    (module, name): _format_path
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "PurePosixPath")
}
