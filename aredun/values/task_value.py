"""Tasks as values: how they are hashed, stored by name and found again (mirrors `redun.task`)."""

from __future__ import annotations

import inspect
import re
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from aredun.formats.describe import describe
from aredun.formats.hashing import hash_arguments, hash_eval, hash_struct
from aredun.values.base import StoredAttributes, Value, get_type_registry
from aredun.values.builtin import get_func_source
from aredun.values.expressions import SchedulerExpression, TaskExpression
from aredun.values.namespace import compute_namespace, join_fullname
from aredun.values.pickling import get_stand_in, stands_for
from aredun.values.task_options import (
    CONTEXT_OPTION,
    CacheCheckValid,
    CacheScope,
    JobInfo,
    check_given_options,
)
from aredun.values.task_registry import get_task_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aredun.formats.hashing import ValueHasher

_NAMESPACE = re.compile(r"^[A-Za-z_][A-Za-z_0-9.]*$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z_0-9]*$")


def get_tuple_type_length(tuple_type: Any) -> int | None:
    """Return how many items a tuple or named tuple type has, or None if it is neither or does not say."""
    if typing.get_origin(tuple_type) is tuple:
        item_types = typing.get_args(tuple_type)
        if Ellipsis in item_types or not hasattr(tuple_type, "__args__"):
            return None
        return len(item_types)
    if inspect.isclass(tuple_type) and issubclass(tuple_type, tuple):
        return len(getattr(tuple_type, "_fields", ())) or None
    return None


def merge_contexts(contexts: Sequence[Any]) -> Any:
    """Merge nested dicts, later ones winning (mirrors redun's `merge_dicts`)."""
    if len(contexts) == 1:
        return contexts[0]
    if not all(isinstance(context, dict) for context in contexts):
        return contexts[-1]
    values_by_key: dict[Any, list[Any]] = {}
    for context in contexts:
        for key, value in context.items():
            values_by_key.setdefault(key, []).append(value)
    return {key: merge_contexts(values) for key, values in values_by_key.items()}


@stands_for("redun.task", "Task")
class TaskValue(StoredAttributes, Value):
    """
    A task (mirrors redun's `Task`): a function with a name, a hash over its source, and options.

    Stored by name: reading one back finds the function of that name in `get_task_registry()`. A subclass on
    a higher floor repeats `type_name = "redun.Task"` and `@stands_for("redun.task", "Task")`.

    Parameters
    ----------
    func : Callable
        The function, plain or `async`.
    name, namespace : str, optional
        By default the function's name, and the namespace of its module.
    version : str, optional
        Hashed in place of the source.
    compat : list of str, optional
        Hashes of former versions; the first is this task's hash too.
    script : bool
        Whether the function returns a shell script, which is run.
    task_options_base : dict, optional
        Options of the decorator; neither stored nor hashed.
    task_options_override : dict, optional
        Options of a call; stored and hashed.
    export_options : set of str, optional
        Names of the options that calls within a call inherit.
    hash_includes : list, optional
        Further values to hash.
    source : str, optional
        The source where `inspect` cannot find it.

    Raises
    ------
    ValueError
        If a name or an option cannot be used.
    """

    type_name = "redun.Task"
    _stored: ClassVar[dict[str, str]] = {
        "name": "name",
        "namespace": "namespace",
        "version": "version",
        "hash": "hash",
        "compat": "compat",
        "script": "script",
        "task_options": "_task_options_override",
        "export_options": "_export_options",
    }

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        namespace: str | None = None,
        version: str | None = None,
        compat: list[str] | None = None,
        script: bool = False,
        task_options_base: dict[str, Any] | None = None,
        task_options_override: dict[str, Any] | None = None,
        export_options: set[str] | None = None,
        hash_includes: list[Any] | None = None,
        source: str | None = None,
    ) -> None:
        self.name = name or func.__name__
        self.namespace = compute_namespace(func, namespace)
        self.func: Callable[..., Any] = func
        self.source = get_func_source(func) if source is None else source
        self.version = version
        self.compat = compat or []
        self.script = script
        self._task_options_base = task_options_base or {}
        self._task_options_override = task_options_override or {}
        self._export_options = export_options or set()
        self._signature: inspect.Signature | None = None
        self._hash_includes = hash_includes
        self.recompute_hash()
        self._validate()

    def __repr__(self) -> str:
        return f"Task(fullname={self.fullname}, hash={self.hash[:8]})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the lazy call of the task."""
        if self.source:  # what is stored of a task that is not defined has none
            get_task_registry().check_current(self)
        return TaskExpression(
            self.fullname,
            args,
            kwargs,
            task_options=self._task_options_override,
            export_options=self._export_options,
            length=self.nout,
        )

    @property
    def fullname(self) -> str:
        """Namespace and name."""
        return join_fullname(self.namespace, self.name)

    def is_async(self) -> bool:
        """Tell whether the function is `async def`."""
        return inspect.iscoroutinefunction(self.func)

    @property
    def load_module(self) -> str:
        """The module to import so that the task is defined."""
        return self.get_task_option("load_module") or self.func.__module__

    @property
    def nout(self) -> int | None:
        """How many items the result has: the option of that name, else what the return type says."""
        if self.has_task_option("nout"):
            return typing.cast("int | None", self.get_task_option("nout"))
        return get_tuple_type_length(getattr(self.func, "__annotations__", {}).get("return"))

    @property
    def wrapped_task(self) -> TaskValue | None:
        """The task that this one wraps."""
        name = self.get_task_option("wrapped_task")
        return get_task_registry().get(name) if name else None

    @property
    def inner_task(self) -> TaskValue:
        """The innermost task that this one wraps, or itself."""
        task: TaskValue = self
        while (wrapped := task.wrapped_task) is not None:
            task = wrapped
        return task

    @property
    def signature(self) -> inspect.Signature:
        """Signature of the function, or of the innermost wrapped task's."""
        if self._signature is None:
            own = self.wrapped_task is None or self.get_task_option("use_wrapper_signature", False)
            self._signature = inspect.signature((self if own else self.inner_task).func)
        return self._signature

    def get_task_option(self, option_name: str, default: Any = None) -> Any:
        """Return one option, of the call or else of the decorator."""
        if option_name in self._task_options_override:
            return self._task_options_override[option_name]
        return self._task_options_base.get(option_name, default)

    def get_task_options(self) -> dict[str, Any]:
        """Return all options; those of the call override those of the decorator."""
        return {**self._task_options_base, **self._task_options_override}

    def has_task_option(self, option_name: str) -> bool:
        """Tell whether an option is set."""
        return option_name in self._task_options_override or option_name in self._task_options_base

    def options(self, **task_options_update: Any) -> Self:
        """Return the task with other options for its calls, such as `cache=False`; they are hashed."""
        check_given_options(task_options_update, self.fullname, of_call=True)
        return self._clone(task_options_update)

    def export_options(self, **task_options_update: Any) -> Self:
        """Return the task with further options for its calls and for all calls within them."""
        check_given_options(task_options_update, self.fullname, of_call=True)
        names = self._export_options | set(task_options_update)
        if "cache" in names:
            names.add("cache_scope")
        return self._clone(task_options_update, export_options=names)

    def update_context(self, context: dict[str, Any] | None = None, **kwargs: Any) -> Self:
        """Return the task with context variables set for its calls."""
        previous = self._task_options_override.get(CONTEXT_OPTION, {})
        return self.options(**{CONTEXT_OPTION: merge_contexts([previous, context or {}, kwargs])})

    def _clone(self, task_options_update: dict[str, Any], **changes: Any) -> Self:
        return type(self)(
            self.func,
            name=self.name,
            namespace=self.namespace,
            version=self.version,
            compat=self.compat,
            script=self.script,
            source=self.source,
            task_options_base=self._task_options_base,
            task_options_override={**self._task_options_override, **task_options_update},
            **changes,
        )

    def partial(self, *args: Any, **kwargs: Any) -> Any:
        """Return the task with some of its arguments given."""
        return PartialTaskValue(self, args, kwargs)

    def _validate(self) -> None:
        if self.namespace and not _NAMESPACE.match(self.namespace):
            raise ValueError(f"invalid task namespace {self.namespace!r}: use letters, digits, '_' and '.'")
        if not _NAME.match(self.name):
            raise ValueError(f"invalid task name {self.name!r}: use letters, digits and '_'")
        self._validate_config_args()
        nout = self.nout
        if nout is not None and (not isinstance(nout, int) or nout < 0):
            raise TypeError(f"invalid nout {nout!r} of task {self.fullname}: use a non-negative int")
        for options in (self._task_options_base, self._task_options_override):
            if "cache" in options:
                options["cache_scope"] = CacheScope.BACKEND if options.pop("cache") else CacheScope.CSE
            if "cache_scope" in options:
                options["cache_scope"] = CacheScope(options["cache_scope"])
            if "check_valid" in options:
                options["check_valid"] = CacheCheckValid(options["check_valid"])
        if "prov" in self._task_options_base or "prov" in self._task_options_override:
            self._export_options.add("prov")

    def _validate_config_args(self) -> None:
        config_args = self.get_task_option("config_args") or []
        known = list(self.signature.parameters) if config_args else []
        unknown = [name for name in config_args if name not in known]
        if unknown:
            raise ValueError(
                f"invalid config_args {', '.join(unknown)} of task {self.fullname}: use {', '.join(known)}"
            )

    def recompute_hash(self) -> None:
        """Compute `hash` anew."""
        self.hash = self._calc_hash()

    def _calc_hash(self) -> str:
        if self.compat:
            return self.compat[0]
        get_hash = get_type_registry().get_hash
        extra = sorted(map(get_hash, self._hash_includes or ()))
        if self._task_options_override:
            extra.append(get_hash(self._task_options_override))
        if self.version is None:
            source = self.source or get_func_source(self.func)
            return hash_struct(["Task", self.fullname, "source", source, *extra])
        return hash_struct(["Task", self.fullname, "version", self.version, *extra])

    def get_hash(self, data: bytes | None = None) -> str:
        """Return the task's hash: name, source or version, and the options of its calls."""
        return self.hash

    def is_valid(self) -> bool:
        """Tell whether the task is still defined as it was when it was stored."""
        return self.hash == self._calc_hash()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.restore(**state)
        self._signature = None
        self._attach(get_task_registry().get(self.fullname))
        self._validate()

    def restore(self, **state: Any) -> None:
        """Set what is stored; earlier versions of redun stored less."""
        defaults = {"compat": [], "script": False, "task_options": {}, "export_options": set()}
        super().__setstate__({**defaults, **state})

    def _attach(self, task: TaskValue | None) -> None:
        """Take what is not stored from the task that is defined under the same name now."""
        if task is None:
            self.func = make_undefined_task(self.fullname)
            self._task_options_base = {}
            self.source = ""
            self._hash_includes = None
        else:
            self.func = task.func
            self._task_options_base = task._task_options_base
            self.source = task.source or get_func_source(task.func)
            self._hash_includes = task._hash_includes


def make_recorded_task(task: Any) -> TaskValue:
    """Return what is stored of a task, given anything with its `name`, `namespace`, `source` and `hash`."""
    recorded = TaskValue.__new__(TaskValue)
    recorded.restore(name=task.name, namespace=task.namespace, version=None, hash=task.hash)
    recorded.source = task.source
    return recorded


def make_undefined_task(fullname: str) -> Callable[..., Any]:
    """Return the function of a task that is no longer defined; calling it raises ValueError."""

    def undefined_task(*args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"task {fullname} is undefined: import the module that defines it")

    return undefined_task


@stands_for("redun.task", "SchedulerTask")
class SchedulerTaskValue(TaskValue):
    """A task that the scheduler itself evaluates (mirrors redun's `SchedulerTask`)."""

    type_name = "redun.task.SchedulerTask"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the lazy call of the task."""
        return SchedulerExpression(
            self.fullname, args, kwargs, task_options=self._task_options_override, length=self.nout
        )


@stands_for("redun.task", "PartialTask")
class PartialTaskValue(TaskValue):
    """
    A task with some of its arguments given (mirrors redun's `PartialTask`).

    Parameters
    ----------
    task : TaskValue
        The task.
    args, kwargs : tuple, dict
        The given arguments.
    """

    type_name = "redun.PartialTask"

    def __init__(self, task: TaskValue, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.task = task
        self.args = tuple(args)
        self.kwargs = kwargs
        super().__init__(task.func, name=task.name, namespace=task.namespace, source=task.source)

    def __repr__(self) -> str:
        return (
            f"PartialTask(fullname={self.fullname}, hash={self.hash[:8]}, "
            f"args={describe(self.args)}, kwargs={describe(self.kwargs)})"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the lazy call of the task with the given and the further arguments."""
        return self.task(*self.args, *args, **{**self.kwargs, **kwargs})

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.update({"task": self.task.__getstate__(), "args": self.args, "kwargs": self.kwargs})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        task_class: Any = get_stand_in("redun.task", "Task")
        self.task = task_class.__new__(task_class)
        self.task.__setstate__(state["task"])
        self.args = state["args"]
        self.kwargs = state["kwargs"]
        super().__setstate__(state)

    def _calc_hash(self) -> str:
        args_hash = hash_arguments(get_type_registry(), self.args, self.kwargs)
        return hash_struct(["PartialTask", self.task._calc_hash(), args_hash])

    def is_valid(self) -> bool:
        """Tell whether the task is still defined as it was."""
        return self.task.is_valid()

    def options(self, **task_options_update: Any) -> Any:
        """Return the task with further options and the same arguments given."""
        return self.task.options(**task_options_update).partial(*self.args, **self.kwargs)

    def get_task_option(self, option_name: str, default: Any = None) -> Any:
        """Return one option of the task."""
        return self.task.get_task_option(option_name, default)

    def get_task_options(self) -> dict[str, Any]:
        """Return all options of the task."""
        return self.task.get_task_options()

    def has_task_option(self, option_name: str) -> bool:
        """Tell whether an option of the task is set."""
        return self.task.has_task_option(option_name)

    def partial(self, *args: Any, **kwargs: Any) -> Self:
        """Return the task with further arguments given."""
        return type(self)(self.task, self.args + args, {**self.kwargs, **kwargs})


def hash_args_eval(
    registry: ValueHasher, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    """
    Hash a call of a task (mirrors redun's `hash_args_eval`).

    Arguments that the task's option `config_args` names, and those of type `JobInfo`, do not count.

    Parameters
    ----------
    registry : ValueHasher
        The type registry that hashes each argument.
    task : TaskValue or redun's Task
        The called task.
    args, kwargs : Sequence[Any], Mapping[str, Any]
        The evaluated arguments, defaults included.

    Returns
    -------
    tuple[str, str]
        `eval_hash` and `args_hash`.
    """
    config_args = task.get_task_option("config_args", []) or []
    parameters = task.signature.parameters
    variadic = next(
        (name for name, param in parameters.items() if param.kind is inspect.Parameter.VAR_POSITIONAL), None
    )

    def counts(name: str, value: Any) -> bool:
        return name not in config_args and not isinstance(value, JobInfo)

    hashed_args = [value for name, value in zip(parameters, args, strict=False) if counts(name, value)]
    if variadic not in config_args:
        hashed_args.extend(args[len(parameters) :])
    hashed_kwargs = {name: value for name, value in kwargs.items() if counts(name, value)}
    return hash_eval(registry, task.hash, hashed_args, hashed_kwargs)
