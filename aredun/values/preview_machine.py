"""A pickle machine that makes previews: it imports nothing, calls nothing and stays within a budget.

Python's own unpickler cannot be made safe by restricting what it finds: it calls what it is given, sets
attributes of classes, and lets a few bytes allocate gigabytes. This one knows data alone. A class or function
is a name (`Global`), an object of it a `Stub`; a handful of Python's own types are made for real.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from typing import TYPE_CHECKING, Any

from aredun.values.preview_builders import build_object, copies_arguments, make_key
from aredun.values.preview_stubs import Global, Stub, Unreadable

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
_INT4 = struct.Struct("<i")
_FLOAT8 = struct.Struct(">d")


# Python loads a codec when it is first used; a preview is to load nothing.
codecs.lookup("raw-unicode-escape")


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
        self._position = 0
        self._budget = budget
        self._depth = depth
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """
        Run the pickle.

        Raises
        ------
        PreviewError
            If it is damaged, or takes more than the budget.
        """
        data = self._data
        operations = _OPERATIONS
        while self._position < len(data):
            code = data[self._position]
            self._position += 1
            if code == _STOP:
                return self._pop()
            operation = operations.get(code)
            if operation is None:
                raise PreviewError(f"the pickle has an unknown or forbidden operation {bytes((code,))!r}")
            operation(self)
        raise PreviewError("the pickle ends too early")

    # Reading ------------------------------------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        end = self._position + size
        if size < 0 or end > len(self._data):
            raise PreviewError("the pickle ends too early")
        chunk = self._data[self._position : end]
        self._position = end
        return chunk

    def _read_uint(self, size: int) -> int:
        return int.from_bytes(self._read(size), "little")

    def _read_line(self) -> bytes:
        end = self._data.find(b"\n", self._position)
        if end < 0:
            raise PreviewError("the pickle ends too early")
        line = self._data[self._position : end]
        self._position = end + 1
        return line

    # The stack ----------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self._stack:
            raise PreviewError("the pickle takes more than it has put")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise PreviewError("the pickle takes more than it has put")
        return self._stack[-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_mark(self) -> list[Any]:
        if not self._marked:
            raise PreviewError("the pickle lacks a mark")
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def pop_mark(self) -> None:
        self._pop_mark()

    def dup(self) -> None:
        self._push(self._top())

    def put(self, index: int) -> None:
        self._memo[index] = self._top()

    def put_text(self) -> None:
        self.put(int(self._read_line()))

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise PreviewError("the pickle refers to what it has not put")
        self._push(self._memo[index])

    def get_text(self) -> None:
        self.get(int(self._read_line()))

    # Plain data ---------------------------------------------------------------------------------------

    def skip_proto(self) -> None:
        self._read(1)

    def skip_frame(self) -> None:
        self._read(8)

    def int_text(self) -> None:
        line = self._read_line()
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line, 0))

    def long_text(self) -> None:
        self._push(int(self._read_line().removesuffix(b"L"), 0))

    def float_text(self) -> None:
        self._push(float(self._read_line()))

    def string_text(self) -> None:
        line = self._read_line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"\"'":
            raise PreviewError("the pickle has a string without quotes")
        self._push(line[1:-1].decode("latin1"))

    def unicode_text(self) -> None:
        self._push(str(self._read_line(), "raw-unicode-escape"))

    def int4(self) -> None:
        self._push(_INT4.unpack(self._read(4))[0])

    def float8(self) -> None:
        self._push(_FLOAT8.unpack(self._read(8))[0])

    def long(self, size: int) -> None:
        self._push(int.from_bytes(self._read(self._read_uint(size)), "little", signed=True))

    def text(self, size: int) -> None:
        self._push(str(self._read(self._read_uint(size)), "utf-8", "surrogatepass"))

    def old_string(self, size: int) -> None:
        self._push(self._read(self._read_uint(size)).decode("ascii", "replace"))

    def byte_string(self, size: int) -> None:
        self._push(self._read(self._read_uint(size)))

    def byte_array(self) -> None:
        self._push(bytearray(self._read(self._read_uint(8))))

    # Containers ---------------------------------------------------------------------------------------

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def tuple_from_mark(self) -> None:
        items = self._pop_mark()
        self._push(tuple(items))

    def list_from_mark(self) -> None:
        items = self._pop_mark()
        self._push(items)

    def dict_from_mark(self) -> None:
        items = self._pop_mark()
        mapping: dict[Any, Any] = {}
        self._set_items(mapping, items)
        self._push(mapping)

    def frozenset_from_mark(self) -> None:
        items = self._pop_mark()
        self._push(frozenset(map(make_key, items)))

    def append(self) -> None:
        item = self._pop()
        self._append_items(self._top(), [item])

    def appends(self) -> None:
        items = self._pop_mark()
        self._append_items(self._top(), items)

    def add_items(self) -> None:
        items = self._pop_mark()
        target = self._top()
        if type(target) is set:
            target.update(map(make_key, items))
        else:
            self._append_items(target, items)

    def set_item(self) -> None:
        value = self._pop()
        key = self._pop()
        self._set_items(self._top(), [key, value])

    def set_items(self) -> None:
        items = self._pop_mark()
        self._set_items(self._top(), items)

    def _append_items(self, target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif type(target) is Stub:
            target._preview_items.extend(items)
        else:
            raise PreviewError(f"the pickle appends to a {type(target).__name__}")

    def _set_items(self, target: Any, items: list[Any]) -> None:
        mapping = target._preview_pairs if type(target) is Stub else target
        if not isinstance(mapping, dict) or len(items) % 2:
            raise PreviewError(f"the pickle sets items of a {type(target).__name__}")
        for index in range(0, len(items), 2):
            mapping[make_key(items[index])] = items[index + 1]

    # Objects ------------------------------------------------------------------------------------------

    def _make_global(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PreviewError("the pickle names a class by something that is no text")
        return _OLD_GLOBALS.get((module, name)) or Global(_OLD_MODULES.get(module, module), name)

    def global_text(self) -> None:
        module = str(self._read_line(), "utf-8")
        name = str(self._read_line(), "utf-8")
        self._push(self._make_global(module, name))

    def global_from_stack(self) -> None:
        name = self._pop()
        module = self._pop()
        self._push(self._make_global(module, name))

    def _build(self, target: Any, args: Any, kwargs: Any = None) -> None:
        if not isinstance(args, tuple):
            raise PreviewError("the pickle calls something without a tuple of arguments")
        if copies_arguments(target):
            self._budget.spend_items(len(args) + sum(len(arg) for arg in args if isinstance(arg, _SIZED)))
        value = build_object(target, args)
        if isinstance(kwargs, dict) and type(value) is Stub:
            self._update_state(value, kwargs)
        self._push(value)

    def reduce(self) -> None:
        args = self._pop()
        target = self._pop()
        self._build(target, args)

    def new_object_with_keywords(self) -> None:
        kwargs = self._pop()
        args = self._pop()
        target = self._pop()
        self._build(target, args, kwargs)

    def instance_text(self) -> None:
        module = str(self._read_line(), "ascii")
        name = str(self._read_line(), "ascii")
        self._build(self._make_global(module, name), tuple(self._pop_mark()))

    def instance_from_mark(self) -> None:
        items = self._pop_mark()
        if not items:
            raise PreviewError("the pickle makes an object of nothing")
        self._build(items[0], tuple(items[1:]))

    def build(self) -> None:
        state = self._pop()
        target = self._top()
        if type(target) is not Stub:
            return
        if (
            isinstance(state, tuple)
            and len(state) == 2
            and all(part is None or isinstance(part, dict) for part in state)
        ):
            for part in state:
                self._update_state(target, part or {})
        elif isinstance(state, dict):
            self._update_state(target, state)
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
            return Unreadable(error)


def _push_value(make: Callable[[], Any]) -> Callable[[PreviewMachine], None]:
    return lambda machine: machine._push(make())


def _sized(method: Callable[[PreviewMachine, int], None], size: int) -> Callable[[PreviewMachine], None]:
    return lambda machine: method(machine, size)


def _uint(use: Callable[[PreviewMachine, int], None], size: int) -> Callable[[PreviewMachine], None]:
    return lambda machine: use(machine, machine._read_uint(size))


_STOP = pickle.STOP[0]
_machine = PreviewMachine
_OPERATIONS: dict[int, Callable[[PreviewMachine], None]] = {
    code[0]: operation
    for code, operation in {
        pickle.PROTO: _machine.skip_proto,
        pickle.FRAME: _machine.skip_frame,
        pickle.MARK: _machine.mark,
        pickle.POP: _machine.pop,
        pickle.POP_MARK: _machine.pop_mark,
        pickle.DUP: _machine.dup,
        pickle.PUT: _machine.put_text,
        pickle.BINPUT: _uint(_machine.put, 1),
        pickle.LONG_BINPUT: _uint(_machine.put, 4),
        pickle.MEMOIZE: _machine.memoize,
        pickle.GET: _machine.get_text,
        pickle.BINGET: _uint(_machine.get, 1),
        pickle.LONG_BINGET: _uint(_machine.get, 4),
        pickle.NONE: _push_value(lambda: None),
        pickle.NEWTRUE: _push_value(lambda: True),
        pickle.NEWFALSE: _push_value(lambda: False),
        pickle.INT: _machine.int_text,
        pickle.LONG: _machine.long_text,
        pickle.FLOAT: _machine.float_text,
        pickle.STRING: _machine.string_text,
        pickle.UNICODE: _machine.unicode_text,
        pickle.BININT: _machine.int4,
        pickle.BININT1: _uint(_machine._push, 1),
        pickle.BININT2: _uint(_machine._push, 2),
        pickle.LONG1: _sized(_machine.long, 1),
        pickle.LONG4: _sized(_machine.long, 4),
        pickle.BINFLOAT: _machine.float8,
        pickle.SHORT_BINUNICODE: _sized(_machine.text, 1),
        pickle.BINUNICODE: _sized(_machine.text, 4),
        pickle.BINUNICODE8: _sized(_machine.text, 8),
        pickle.SHORT_BINSTRING: _sized(_machine.old_string, 1),
        pickle.BINSTRING: _sized(_machine.old_string, 4),
        pickle.SHORT_BINBYTES: _sized(_machine.byte_string, 1),
        pickle.BINBYTES: _sized(_machine.byte_string, 4),
        pickle.BINBYTES8: _sized(_machine.byte_string, 8),
        pickle.BYTEARRAY8: _machine.byte_array,
        pickle.EMPTY_TUPLE: _push_value(tuple),
        pickle.TUPLE1: _sized(_machine.tuple_of, 1),
        pickle.TUPLE2: _sized(_machine.tuple_of, 2),
        pickle.TUPLE3: _sized(_machine.tuple_of, 3),
        pickle.TUPLE: _machine.tuple_from_mark,
        pickle.EMPTY_LIST: _push_value(list),
        pickle.LIST: _machine.list_from_mark,
        pickle.APPEND: _machine.append,
        pickle.APPENDS: _machine.appends,
        pickle.EMPTY_DICT: _push_value(dict),
        pickle.DICT: _machine.dict_from_mark,
        pickle.SETITEM: _machine.set_item,
        pickle.SETITEMS: _machine.set_items,
        pickle.EMPTY_SET: _push_value(set),
        pickle.ADDITEMS: _machine.add_items,
        pickle.FROZENSET: _machine.frozenset_from_mark,
        pickle.GLOBAL: _machine.global_text,
        pickle.STACK_GLOBAL: _machine.global_from_stack,
        pickle.REDUCE: _machine.reduce,
        pickle.NEWOBJ: _machine.reduce,
        pickle.NEWOBJ_EX: _machine.new_object_with_keywords,
        pickle.INST: _machine.instance_text,
        pickle.OBJ: _machine.instance_from_mark,
        pickle.BUILD: _machine.build,
    }.items()
}
