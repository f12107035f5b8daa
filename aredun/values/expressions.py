"""Lazy expressions: calls and operations that a scheduler is still to evaluate (mirrors `redun.expression`).

They are values: a task may return them, and they are stored in redun's bytes in the cache of evaluations.
"""

from __future__ import annotations

import html
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar

from aredun.formats.describe import describe
from aredun.formats.hashing import hash_arguments, hash_bytes, hash_struct
from aredun.values.base import StoredAttributes, Value, get_type_registry, is_value
from aredun.values.nested import iter_nested_value
from aredun.values.operations import format_arguments, format_operation
from aredun.values.operations import get_lazy_operation as get_lazy_operation
from aredun.values.pickling import pickle_dumps, pickle_loads, stands_for
from aredun.values.task_registry import get_task_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    Awaiter = Callable[["Expression"], Awaitable[Any]]

_awaiter: Awaiter | None = None


def set_expression_awaiter(awaiter: Awaiter | None) -> None:
    """
    Say what awaiting an expression does.

    Parameters
    ----------
    awaiter : Callable[[Expression], Awaitable], optional
        Called with the awaited expression; the scheduler gives one that evaluates it. None: awaiting fails.
    """
    global _awaiter
    _awaiter = awaiter


def _operator(func_name: str) -> Callable[[Expression, Any], SimpleExpression]:
    """Return the method that makes an expression of an operator's two sides."""

    def make(self: Expression, other: Any) -> SimpleExpression:
        return SimpleExpression(func_name, (self, other))

    return make


@stands_for("redun.expression", "Expression")
class Expression(Value):
    """
    Root of all expressions (mirrors redun's `Expression`).

    Attributes, items, operators and calls of an expression are expressions themselves.
    """

    type_name = "redun.expression.Expression"

    def __init__(self) -> None:
        self._hash: str | None = None
        self._lineage: list[Any] | None = None
        self._length: int | None = None

    @property
    def _upstreams(self) -> list[Any]:
        # A workflow may hold many expressions, and few have another lineage than that of their kind.
        return self._find_upstreams() if self._lineage is None else self._lineage

    @_upstreams.setter
    def _upstreams(self, upstreams: list[Any]) -> None:
        self._lineage = upstreams

    def _find_upstreams(self) -> list[Any]:
        return []

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the expression by what it would evaluate."""
        if self._hash is None:
            self._hash = self._calc_hash()
        return self._hash

    def _calc_hash(self) -> str:
        raise TypeError(
            f"a bare {type(self).__name__} has no hash: make a call, an operation or a value of it"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Expression.__init__(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f"<code>{html.escape(repr(self))}</code>"

    def __call__(self, *args: Any, **kwargs: Any) -> SimpleExpression:
        return SimpleExpression("call", (self, args, kwargs))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            if key.stop is None:
                raise TypeError("a slice of an expression needs an end: its length is not known yet")
            return [self[index] for index in range(key.start or 0, key.stop, key.step or 1)]
        return SimpleExpression("getitem", (self, key))

    def __getattr__(self, attr: str) -> SimpleExpression:
        if attr.endswith("_") and attr.startswith(("__", "_repr_", "_ipython_")):
            # Whoever asks for a protocol of Python or of notebooks asks the expression, not its value.
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attr!r}")
        return SimpleExpression("getattr", (self, attr))

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value before it is evaluated: pass it to a task instead")

    def __iter__(self) -> Iterator[Any]:
        if self._length:
            return (self[index] for index in range(self._length))
        raise TypeError("an expression of unknown length cannot be iterated: annotate the task as tuple[...]")

    def __await__(self) -> Generator[Any, Any, Any]:
        if _awaiter is None:
            raise RuntimeError(
                "an expression can be awaited in a running task only: pass it to Scheduler.run"
            )
        return _awaiter(self).__await__()

    def __class_getitem__(cls, result: Any) -> GenericAlias:
        """Let an annotation say what a call results in: `Call[int]`."""
        return GenericAlias(cls, result)

    __hash__ = object.__hash__

    # Lazy, as all operators.
    __eq__ = _operator("eq")  # type: ignore[assignment]
    __ne__ = _operator("ne")  # type: ignore[assignment]
    __lt__ = _operator("lt")
    __le__ = _operator("le")
    __gt__ = _operator("gt")
    __ge__ = _operator("ge")
    __add__ = _operator("add")
    __radd__ = _operator("radd")
    __sub__ = _operator("sub")
    __rsub__ = _operator("rsub")
    __mul__ = _operator("mul")
    __rmul__ = _operator("rmul")
    __truediv__ = _operator("div")
    __rtruediv__ = _operator("rdiv")
    __and__ = _operator("and")
    __rand__ = _operator("rand")
    __or__ = _operator("or")
    __ror__ = _operator("ror")


@stands_for("redun.expression", "ApplyExpression")
class ApplyExpression(Expression):
    """
    Root of the expressions that apply something to arguments (mirrors redun's `ApplyExpression`).

    Parameters
    ----------
    args, kwargs : tuple, dict
        The arguments, which may contain expressions.
    """

    type_name = "redun.expression.ApplyExpression"

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.args = args
        self.kwargs = kwargs

    def _find_upstreams(self) -> list[Any]:
        return [self.args, self.kwargs]

    def __getstate__(self) -> dict[str, Any]:
        # As the registry would, without its frames: calls nested in calls are to go as deep as in redun.
        return {"args": pickle_dumps(self.args), "kwargs": pickle_dumps(self.kwargs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.args = pickle_loads(state["args"])
        self.kwargs = pickle_loads(state["kwargs"])

    def _hash_arguments(self) -> str:
        return hash_arguments(get_type_registry(), self.args, self.kwargs)


@stands_for("redun.expression", "TaskExpression")
class TaskExpression(ApplyExpression):
    """
    A call of a task (mirrors redun's `TaskExpression`).

    Parameters
    ----------
    task_name : str
        The task's full name.
    args, kwargs : tuple, dict
        The arguments, which may contain expressions.
    task_options : dict, optional
        Options of this call, which override the task's own.
    export_options : set of str, optional
        Names of the options that calls within this one inherit.
    length : int, optional
        Number of items of the result where it is known, so that the expression can be unpacked.

    Attributes
    ----------
    call_hash : str or None
        The call node that evaluating the expression led to; set by the scheduler, never stored.
    """

    type_name = "redun.expression.TaskExpression"

    def __init__(
        self,
        task_name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        task_options: dict[str, Any] | None = None,
        export_options: set[str] | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(args, kwargs)
        self.task_name = task_name
        self.call_hash: str | None = None
        self._options = task_options or {}
        self._exported = export_options
        self._length = length

    def __repr__(self) -> str:
        return f"{self.task_name}({format_arguments(self.args, self.kwargs, describe)})"

    @property
    def _export_options(self) -> set[str]:
        # Few calls have any. A set for each, even an empty one, is what redun's bytes have.
        return self._exported or set()

    def _calc_hash(self) -> str:
        struct = ["TaskExpression", self.task_name, self._hash_arguments()]
        struct.append(hash_bytes(pickle_dumps(self._options)))
        if self._export_options:
            struct.append(hash_struct(sorted(self._export_options)))
        return hash_struct(struct)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "task_name": self.task_name,
            **super().__getstate__(),
            "task_options": self._options,
            "export_options": self._export_options,
            "length": self._length,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.task_name = state["task_name"]
        self._options = state.get("task_options", {})
        self._exported = state.get("export_options")
        self._length = state.get("length")
        self.call_hash = None

    def is_valid(self) -> bool:
        """Tell whether the task is still defined and all values among the arguments are valid."""
        if get_task_registry().get(self.task_name) is None:
            return False
        leaves = iter_nested_value((self.args, self.kwargs))
        return all(leaf.is_valid() for leaf in leaves if is_value(leaf))


@stands_for("redun.expression", "SchedulerExpression")
class SchedulerExpression(TaskExpression):
    """A call of a task that the scheduler evaluates (mirrors redun's `SchedulerExpression`)."""

    type_name = "redun.expression.SchedulerExpression"

    def _calc_hash(self) -> str:
        return hash_struct(["SchedulerExpression", self.task_name, self._hash_arguments()])


@stands_for("redun.expression", "SimpleExpression")
class SimpleExpression(ApplyExpression):
    """
    An operation on values: an operator, an item, an attribute or a call.

    Mirrors redun's `SimpleExpression`.

    Parameters
    ----------
    func_name : str
        Name of the operation, as `get_lazy_operation` takes it.
    args, kwargs : tuple, dict
        Its arguments, which may contain expressions.
    """

    type_name = "redun.expression.SimpleExpression"

    def __init__(
        self, func_name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(args, {} if kwargs is None else kwargs)
        self.func_name = func_name

    def __repr__(self) -> str:
        return format_operation(self.func_name, self.args, self.kwargs, describe)

    def _calc_hash(self) -> str:
        return hash_struct(["SimpleExpression", self.func_name, self._hash_arguments()])

    def __getstate__(self) -> dict[str, Any]:
        return {"func_name": self.func_name, **super().__getstate__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.func_name = state["func_name"]


@stands_for("redun.expression", "ValueExpression")
class ValueExpression(Expression):
    """A plain value in the place of an expression (mirrors redun's `ValueExpression`)."""

    type_name = "redun.expression.ValueExpression"

    def __init__(self, value: Any) -> None:
        if isinstance(value, Expression):
            raise TypeError("a ValueExpression needs a plain value, not an expression")
        super().__init__()
        self.value = value

    def __repr__(self) -> str:
        return f"ValueExpression({describe(self.value)})"

    def _calc_hash(self) -> str:
        return hash_struct(["ValueExpression", get_type_registry().get_hash(self.value)])

    def __getstate__(self) -> dict[str, Any]:
        registry = get_type_registry()
        return {
            "value_type": registry.get_type_name(type(self.value)),
            "value": registry.serialize(self.value),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.value = get_type_registry().deserialize(state["value_type"], state["value"])


@stands_for("redun.expression", "QuotedExpression")
class QuotedExpression:
    """An expression that is passed on as it is (mirrors redun's `QuotedExpression`)."""

    def __init__(self, expr: Any) -> None:
        self._expr = expr

    def __repr__(self) -> str:
        return f"QuotedExpression({describe(self._expr)})"

    def eval(self) -> Any:
        """Return the expression, to be evaluated now."""
        return self._expr


def quote(expr: Any) -> QuotedExpression:
    """Keep an expression from being evaluated (mirrors redun's `quote`)."""
    return QuotedExpression(expr)


@stands_for("redun.scheduler", "Thread")
class Thread(StoredAttributes, Value):
    """
    A computation that goes on in the background (mirrors redun's `Thread`).

    Parameters
    ----------
    promise_id : str
        Where the scheduler keeps the running computation.
    expr_hash : str
        Hash of the expression.
    expr : Any
        The expression that is computed.
    """

    type_name = "redun.Thread"
    _stored: ClassVar[dict[str, str]] = {"promise_id": "_promise_id", "hash": "_hash", "expr": "_expr"}

    def __init__(self, promise_id: str, expr_hash: str, expr: Any) -> None:
        self._promise_id = promise_id
        self._hash = hash_struct(["Thread", expr_hash])
        self._expr = expr

    def __repr__(self) -> str:
        return f"Thread({self._expr})"

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the expression."""
        return self._hash


def derive_expression(orig_expr: Expression, derived_value: Any) -> Expression:
    """
    Make a value, or an expression, count as derived from an expression.

    Mirrors redun's `derive_expression`.

    Returns
    -------
    Expression
        The derived expression; `_upstreams` is the original one.
    """
    derived = derived_value if isinstance(derived_value, Expression) else ValueExpression(derived_value)
    derived._upstreams = [orig_expr]
    return derived
