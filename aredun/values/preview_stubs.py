"""What a preview is made of: named stubs in place of classes and objects, and how each is written."""

from __future__ import annotations

import builtins
import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.values.expressions import format_arguments, format_operation
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
        kind = "class" if self.name.rpartition(".")[2][:1].isupper() else "function"
        return (
            f"<class '{self.module}.{self.name}'>"
            if kind == "class"
            else f"<function {self.module}.{self.name}>"
        )


class Stub:
    """
    An object of a class that is not loaded: its constructor's arguments, its state and its items.

    The attributes of the state can be read. The text is redun's for redun's own classes, and
    `Name(argument, attribute=value)` for all others.
    """

    __slots__ = ("_preview_args", "_preview_global", "_preview_items", "_preview_pairs", "_preview_state")

    def __init__(self, name: Global, args: tuple[Any, ...] = (), state: dict[str, Any] | None = None) -> None:
        self._preview_global = name
        self._preview_args = args
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
        formatter = _FORMATTERS.get(self._preview_global)
        if formatter is None and is_exception_name(self._preview_global):
            formatter = _format_exception
        if formatter is not None:
            try:
                return formatter(self)
            except Exception:
                # A forged state can fail in any way; it is shown as that of an unknown class.
                return _format_plain(self)
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


class Unreadable:
    """Stands for bytes that are no complete pickle."""

    def __init__(self, error: Exception) -> None:
        self.reason = (str(error) or type(error).__name__)[:_MAX_REASON]

    def __repr__(self) -> str:
        return f"Unpicklable('{self.reason}')"


class OtherFormat:
    """Stands for bytes in a format other than pickle."""

    def __init__(self, type_name: str, size: int) -> None:
        self.type_name = type_name
        self.size = size

    def __repr__(self) -> str:
        return f"{self.type_name}(size={self.size})"


def is_exception_name(name: Global) -> bool:
    """Tell whether a name is that of one of Python's exceptions."""
    if name.module != "builtins":
        return False
    found = builtins.__dict__.get(name.name)
    return isinstance(found, type) and issubclass(found, BaseException)


def get_shown_arguments(stub: Stub) -> list[str]:
    """Write the parts of a stub of an unknown class."""
    texts = [repr(arg) for arg in stub._preview_args]
    if stub._preview_items:
        texts.append(repr(stub._preview_items))
    if stub._preview_pairs:
        texts.append(repr(stub._preview_pairs))
    texts.extend(f"{name}={value!r}" for name, value in stub._preview_state.items())
    return texts


def _format_plain(stub: Stub) -> str:
    return f"{stub._preview_global.name}({', '.join(get_shown_arguments(stub))})"


def _short(hash_text: Any) -> str:
    return str(hash_text or "")[:8]


def _fullname(state: dict[str, Any]) -> str:
    namespace = state.get("namespace")
    return f"{namespace}.{state['name']}" if namespace else str(state["name"])


def _format_exception(stub: Stub) -> str:
    args = stub._preview_args
    if stub._preview_global.name in _OS_ERRORS and len(args) > 2:
        # An OSError shows no file names.
        args = args[:2]
    return f"{stub._preview_global.name}({', '.join(map(repr, args))})"


def _format_file(stub: Stub) -> str:
    state = stub._preview_state
    return f"{stub._preview_global.name}(path={state['path']}, hash={_short(state['hash'])})"


def _format_file_set(stub: Stub) -> str:
    state = stub._preview_state
    return f"FileSet(pattern={state['pattern']}, hash={state['hash']})"


def _format_staging(stub: Stub) -> str:
    state = stub._preview_state
    return f"{stub._preview_global.name}(local={state['local']!r}, remote={state['remote']!r})"


def _format_dataset(stub: Stub) -> str:
    state = stub._preview_state
    names = ("path", "format", "recurse", "hash")
    return f"ShardedS3Dataset({', '.join(f'{name}={state[name]}' for name in names)})"


def _format_handle(stub: Stub) -> str:
    state = stub._preview_state
    return f"{state['class_name']}(fullname={_fullname(state)}, hash={_short(state['hash'])})"


def _format_task(stub: Stub) -> str:
    state = stub._preview_state
    return f"Task(fullname={_fullname(state)}, hash={_short(state['hash'])})"


def _format_partial_task(stub: Stub) -> str:
    state = stub._preview_state
    return (
        f"PartialTask(fullname={_fullname(state)}, hash={_short(state['hash'])}, "
        f"args={state['args']!r}, kwargs={state['kwargs']!r})"
    )


def _format_error_value(stub: Stub) -> str:
    return f"ErrorValue({stub._preview_state['error']!r})"


def _format_traceback(stub: Stub) -> str:
    state = stub._preview_state
    return f"Traceback(error={state['error']!r}, frames={len(state['frames'])})"


def _format_function(stub: Stub) -> str:
    state = stub._preview_state
    return f"<function {state['module']}.{state['name']}>"


def _format_task_expression(stub: Stub) -> str:
    state = stub._preview_state
    return f"{state['task_name']}({format_arguments(state['args'], state['kwargs'])})"


def _format_simple_expression(stub: Stub) -> str:
    state = stub._preview_state
    return format_operation(state["func_name"], state["args"], state["kwargs"])


def _format_value_expression(stub: Stub) -> str:
    return f"ValueExpression({stub._preview_state['value']!r})"


def _format_quoted_expression(stub: Stub) -> str:
    return f"QuotedExpression({stub._preview_state['_expr']!r})"


def _format_thread(stub: Stub) -> str:
    return f"Thread({stub._preview_state['expr']})"


def _format_job(stub: Stub) -> str:
    return f"Job(id={stub._preview_state['id']})"


def _format_job_info(stub: Stub) -> str:
    shown = ", ".join(f"{name}={value}" for name, value in stub._preview_state.items())
    return f"JobInfo({shown})"


def _format_enum(enumeration: type[enum.Enum]) -> Callable[[Stub], str]:
    return lambda stub: repr(enumeration(stub._preview_args[0]))


def _format_uuid(stub: Stub) -> str:
    number = stub._preview_state["int"]
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise ValueError("not the number of a UUID")
    digits = f"{number:032x}"
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return f"UUID('{'-'.join(parts)}')"


def _format_zone_info(stub: Stub) -> str:
    return f"zoneinfo.ZoneInfo(key={stub._preview_args[0]!r})"


def _format_frame(stub: Stub) -> str:
    state = stub._preview_state
    return f"<FrameSummary file {state['filename']}, line {state['lineno']} in {state['name']}>"


def _format_fraction(stub: Stub) -> str:
    if len(stub._preview_args) > 1:
        return _format_plain(stub)
    numerator, _, denominator = str(stub._preview_args[0]).partition("/")
    return f"Fraction({numerator}, {denominator or 1})"


def _format_path(stub: Stub) -> str:
    parts = [str(part) for part in stub._preview_args]
    root = "/" if parts[:1] == ["/"] else ""
    return f"{stub._preview_global.name}({root + '/'.join(parts[1:] if root else parts) or '.'!r})"


def _format_deque(stub: Stub) -> str:
    limit = f", maxlen={stub._preview_args[1]!r}" if len(stub._preview_args) > 1 else ""
    return f"deque({stub._preview_items!r}{limit})"


def _format_defaultdict(stub: Stub) -> str:
    factory = stub._preview_args[0] if stub._preview_args else None
    return f"defaultdict({factory!r}, {stub._preview_pairs!r})"


def _format_counter(stub: Stub) -> str:
    counts = dict(stub._preview_args[0]) if stub._preview_args else {}
    return f"Counter({dict(sorted(counts.items(), key=lambda item: -item[1]))!r})" if counts else "Counter()"


_OS_ERRORS = frozenset(
    name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, OSError)
)
_FORMATTERS: dict[tuple[str, str], Callable[[Stub], str]] = {
    ("redun.file", "FileSet"): _format_file_set,
    ("redun.file", "IFileSet"): _format_file_set,
    ("redun.file", "ContentFileSet"): _format_file_set,
    ("redun.file", "ShardedS3Dataset"): _format_dataset,
    ("redun.handle", "Handle"): _format_handle,
    ("redun.task", "Task"): _format_task,
    ("redun.task", "SchedulerTask"): _format_task,
    ("redun.task", "PartialTask"): _format_partial_task,
    ("redun.task", "CacheScope"): _format_enum(CacheScope),
    ("redun.task", "CacheCheckValid"): _format_enum(CacheCheckValid),
    ("redun.task", "CacheResult"): _format_enum(CacheResult),
    ("redun.scheduler", "ErrorValue"): _format_error_value,
    ("redun.scheduler", "Traceback"): _format_traceback,
    ("redun.scheduler", "Thread"): _format_thread,
    ("redun.scheduler", "Job"): _format_job,
    ("redun.scheduler", "JobInfo"): _format_job_info,
    ("redun.value", "Function"): _format_function,
    ("redun.expression", "TaskExpression"): _format_task_expression,
    ("redun.expression", "SchedulerExpression"): _format_task_expression,
    ("redun.expression", "SimpleExpression"): _format_simple_expression,
    ("redun.expression", "ValueExpression"): _format_value_expression,
    ("redun.expression", "QuotedExpression"): _format_quoted_expression,
    ("uuid", "UUID"): _format_uuid,
    ("fractions", "Fraction"): _format_fraction,
    ("zoneinfo", "ZoneInfo._unpickle"): _format_zone_info,
    ("traceback", "FrameSummary"): _format_frame,
    ("redun.scheduler", "Frame"): _format_frame,
    ("collections", "deque"): _format_deque,
    ("collections", "defaultdict"): _format_defaultdict,
    ("collections", "Counter"): _format_counter,
}
_FORMATTERS |= {
    ("redun.file", f"{family}{kind}"): _format_file
    for family in ("", "I", "Content")
    for kind in ("File", "Dir")
}
_FORMATTERS |= {
    ("redun.file", f"{family}Staging{kind}"): _format_staging
    for family in ("", "I", "Content")
    for kind in ("File", "Dir")
}
_FORMATTERS |= {
    (module, f"{pure}{flavour}Path"): _format_path
    for module in ("pathlib", "pathlib._local")
    for pure in ("", "Pure")
    for flavour in ("Posix",)
}
