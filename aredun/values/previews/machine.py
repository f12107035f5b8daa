"""A pickle machine that makes previews: it imports nothing, calls nothing and stays within a budget.

Python's own unpickler cannot be made safe by restricting what it finds: it calls what it is given, sets
attributes of classes, and lets a few bytes allocate gigabytes. This one takes the operations from Python's
`pickletools` and knows data alone. A class or function is a name (`Global`), an object of it a `Stub`; a
handful of Python's own types are made for real.
"""

from __future__ import annotations

import codecs
import io
import pickle
import pickletools
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.values.previews.builders import build_object, copies_arguments, make_dict_key
from aredun.values.previews.stubs import Global, Stub, show_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NESTED_PICKLES = 20
_ARGUMENT_PICKLES = {
    ("redun.expression", "TaskExpression"): ("args", "kwargs"),
    ("redun.expression", "SchedulerExpression"): ("args", "kwargs"),
    ("redun.expression", "SimpleExpression"): ("args", "kwargs"),
    ("redun.expression", "ValueExpression"): ("value",),
}
_OLD_MODULES = {"__builtin__": "builtins", "exceptions": "builtins", "copy_reg": "copyreg"}
_OLD_GLOBALS = {
    ("__builtin__", "xrange"): Global("builtins", "range"),
    ("__builtin__", "unicode"): Global("builtins", "str"),
    ("__builtin__", "long"): Global("builtins", "int"),
}
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


# Python loads a codec when it is first used; a preview is to load nothing.
codecs.lookup("raw-unicode-escape")
codecs.lookup("unicode-escape")


class PreviewError(Exception):
    """The bytes are no pickle that can be previewed."""


class BudgetError(PreviewError):
    """The pickle unfolds to more than a preview may hold."""


class Budget:
    """
    What one preview may copy, nested pickles included; all else is bounded by the size of the pickle.

    Parameters
    ----------
    size : int
        Size of the value in bytes; an honest pickle needs no more than a few times that.
    """

    def __init__(self, size: int) -> None:
        self.items = 4 * size + 10_000

    def spend_items(self, count: int) -> None:
        """Pay for items or bytes that are copied."""
        self.items -= count
        if self.items < 0:
            raise BudgetError("the pickle unfolds to more than a preview may hold")


class _PickleFile(io.BytesIO):
    """A pickle to tokenise; a huge length reads no more than is there."""

    def readline(self, size: int | None = -1, /) -> bytes:
        # Names are in UTF-8 since protocol 3, and the `pickletools` of Python 3.11 takes them for ASCII.
        start = self.tell()
        line = super().readline(size)
        if line.isascii() or self.getvalue()[start - 1 : start] == pickle.UNICODE:
            return line
        return line.decode().encode("ascii", "backslashreplace").replace(b"\\", b"\\\\")


class PreviewMachine:
    """
    Reads one pickle into plain data, `Stub` and `Global`.

    Parameters
    ----------
    data : bytes
        The pickle, of any protocol.
    budget : Budget
        What may be used.
    depth : int
        How many pickles this one is nested in.
    """

    def __init__(self, data: bytes, budget: Budget, depth: int = 0) -> None:
        self._data = data
        self._budget = budget
        self._depth = depth
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """
        Run the pickle.

        Raises
        ------
        PreviewError
            If it takes more than it has put, or more than the budget.
        ValueError
            If it is damaged.
        """
        for opcode, argument, _ in pickletools.genops(_PickleFile(self._data)):
            name = opcode.name
            if name in _LITERALS:
                self.stack.append(argument)
                continue
            operation = _OPERATIONS.get(name)
            if operation is None:
                raise PreviewError(f"the pickle has a forbidden operation {name}")
            takes, run = operation
            items = [] if takes == 0 else self._take_marked() if takes is None else self._take(takes)
            run(self, items, argument)
        return self._take(1)[0]

    # The stack ----------------------------------------------------------------------------------------

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise PreviewError("the pickle takes more than it has put")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _take_marked(self) -> list[Any]:
        if not self._marked:
            raise PreviewError("the pickle lacks a mark")
        items = self.stack
        self.stack = self._marked.pop()
        return items

    def _get_top(self) -> Any:
        if not self.stack:
            raise PreviewError("the pickle takes more than it has put")
        return self.stack[-1]

    def mark(self, _items: list[Any], _argument: None) -> None:
        self._marked.append(self.stack)
        self.stack = []

    def pop(self, _items: list[Any], _argument: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._take_marked()

    def dup(self, _items: list[Any], _argument: None) -> None:
        self.stack.append(self._get_top())

    def put(self, _items: list[Any], index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._get_top()

    def get(self, _items: list[Any], index: int) -> None:
        if index not in self._memo:
            raise PreviewError("the pickle refers to what it has not put")
        self.stack.append(self._memo[index])

    # Containers ---------------------------------------------------------------------------------------

    def make_dict(self, items: list[Any], _argument: None) -> None:
        self.stack.append({})
        self.set_items(items, None)

    def append_items(self, items: list[Any], _argument: None) -> None:
        target = self._get_top()
        if type(target) is list:
            target.extend(items)
        elif type(target) is Stub:
            target._preview_items.extend(items)
        else:
            raise PreviewError(f"the pickle appends to a {type(target).__name__}")

    def add_items(self, items: list[Any], _argument: None) -> None:
        target = self._get_top()
        if type(target) is set:
            target.update(map(make_dict_key, items))
        else:
            self.append_items(items, None)

    def set_items(self, items: list[Any], _argument: None) -> None:
        target = self._get_top()
        mapping = target._preview_pairs if type(target) is Stub else target
        if not isinstance(mapping, dict) or len(items) % 2:
            raise PreviewError(f"the pickle sets items of a {type(target).__name__}")
        for index in range(0, len(items), 2):
            mapping[make_dict_key(items[index])] = items[index + 1]

    # Objects ------------------------------------------------------------------------------------------

    def name_global(self, items: list[Any], names: str | None) -> None:
        if names is not None:
            items = names.encode().decode("unicode-escape").split(" ", 1)
        module, name = items
        if not isinstance(module, str) or not isinstance(name, str):
            raise PreviewError("the pickle names a class by something that is no text")
        self.stack.append(_OLD_GLOBALS.get((module, name)) or Global(_OLD_MODULES.get(module, module), name))

    def make_instance(self, items: list[Any], names: str | None) -> None:
        if names is not None:
            self.name_global([], names)
            items.insert(0, self.stack.pop())
        if not items:
            raise PreviewError("the pickle makes an object of nothing")
        self.make_object([items[0], tuple(items[1:])], None)

    def make_object(self, items: list[Any], _argument: None) -> None:
        target, args, *kwargs = items
        if not isinstance(args, tuple):
            raise PreviewError("the pickle calls something without a tuple of arguments")
        if copies_arguments(target):
            self._budget.spend_items(len(args) + sum(len(arg) for arg in args if isinstance(arg, _SIZED)))
        value = build_object(target, args)
        if kwargs and isinstance(kwargs[0], dict) and type(value) is Stub:
            self._update_state(value, kwargs[0])
        self.stack.append(value)

    def set_state(self, items: list[Any], _argument: None) -> None:
        target = self._get_top()
        if type(target) is not Stub:
            return
        (state,) = items
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state, {})
        if state is not None and all(part is None or isinstance(part, dict) for part in parts):
            for part in parts:
                self._update_state(target, part or {})
        else:
            target._preview_args = (*target._preview_args, state)
            self._budget.spend_items(len(target._preview_args))

    def _update_state(self, stub: Stub, state: dict[Any, Any]) -> None:
        self._budget.spend_items(len(state))
        pickled = _ARGUMENT_PICKLES.get(stub._preview_global, ())
        for key, value in state.items():
            name = key if isinstance(key, str) else "?"
            stub._preview_state[name] = self._load_nested(value) if name in pickled else value

    def _load_nested(self, data: Any) -> Any:
        """Read a pickle within the pickle, such as the arguments of a lazy call."""
        if not isinstance(data, bytes):
            return data
        self._budget.spend_items(len(data))
        if self._depth >= MAX_NESTED_PICKLES:
            raise PreviewError("the pickle has too many pickles within one another")
        try:
            return PreviewMachine(data, self._budget, self._depth + 1).load()
        except BudgetError:
            raise
        except Exception as error:
            # Damaged bytes can fail in any way.
            return show_unreadable(error)


class _Operation(NamedTuple):
    """What an operation does, and how many items of the stack it takes: None for those from the mark on."""

    takes: int | None
    run: Callable[[PreviewMachine, list[Any], Any], None]


def _push(make: Callable[[list[Any]], Any]) -> Callable[[PreviewMachine, list[Any], Any], None]:
    return lambda machine, items, _argument: machine.stack.append(make(items))


def _do_nothing(_machine: PreviewMachine, _items: list[Any], _argument: Any) -> None:
    """Do what a frame or a protocol's number asks for."""


_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_machine = PreviewMachine
_OPERATIONS: dict[str, _Operation] = {
    name: _Operation(takes, run)
    for names, takes, run in (
        ("PROTO FRAME STOP", 0, _do_nothing),
        ("NONE", 0, _push(lambda _: None)),
        ("NEWTRUE", 0, _push(lambda _: True)),
        ("NEWFALSE", 0, _push(lambda _: False)),
        ("MARK", 0, _machine.mark),
        ("POP", 0, _machine.pop),
        ("POP_MARK", None, _do_nothing),
        ("DUP", 0, _machine.dup),
        ("PUT BINPUT LONG_BINPUT MEMOIZE", 0, _machine.put),
        ("GET BINGET LONG_BINGET", 0, _machine.get),
        ("EMPTY_LIST", 0, _push(list)),
        ("EMPTY_DICT", 0, _push(lambda _: {})),
        ("EMPTY_SET", 0, _push(set)),
        ("EMPTY_TUPLE", 0, _push(tuple)),
        ("TUPLE1", 1, _push(tuple)),
        ("TUPLE2", 2, _push(tuple)),
        ("TUPLE3", 3, _push(tuple)),
        ("TUPLE", None, _push(tuple)),
        ("LIST", None, _push(list)),
        ("FROZENSET", None, _push(lambda items: frozenset(map(make_dict_key, items)))),
        ("DICT", None, _machine.make_dict),
        ("APPEND", 1, _machine.append_items),
        ("APPENDS", None, _machine.append_items),
        ("ADDITEMS", None, _machine.add_items),
        ("SETITEM", 2, _machine.set_items),
        ("SETITEMS", None, _machine.set_items),
        ("GLOBAL", 0, _machine.name_global),
        ("STACK_GLOBAL", 2, _machine.name_global),
        ("REDUCE NEWOBJ", 2, _machine.make_object),
        ("NEWOBJ_EX", 3, _machine.make_object),
        ("INST OBJ", None, _machine.make_instance),
        ("BUILD", 1, _machine.set_state),
    )
    for name in names.split()
}
