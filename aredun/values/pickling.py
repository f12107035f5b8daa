"""Pickle protocol 3 as redun writes and reads it, with aredun's classes standing in for redun's.

A repository names redun's classes (`redun.file File`) in its pickles. aredun's own classes are written under
those names and read back from them, whether or not redun can be imported.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import secrets
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from aredun.errors import InvalidValueError
from aredun.values.nested import is_long

if TYPE_CHECKING:
    from collections.abc import Callable

MIME_TYPE_PICKLE = "application/python-pickle"
PICKLE_PROTOCOL = 3

T = TypeVar("T", bound=type)

# The C pickler writes a class under its module and a name that must lead back to it. A stand-in is written
# under an unguessable attribute of its own module, so that its name can be exchanged for redun's afterwards
# without ever touching the bytes of a string that happens to look alike.
_NONCE = secrets.token_hex(16)
_alias_by_class: dict[type, str] = {}
_renamed_global_by_class: dict[type, tuple[bytes, bytes]] = {}
_redun_name_by_class: dict[type, tuple[str, str]] = {}
_class_by_redun_name: dict[tuple[str, str], type] = {}
# The unpickler reads more bytes than this in pieces of this size. Few names of a module or class are longer
# than the other.
_SLICED_SIZE = 1 << 20
_NAME_SIZE = 64
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), bytes})


def stands_for(redun_module: str, redun_name: str) -> Callable[[T], T]:
    """
    Declare a class to be aredun's form of a class of redun.

    Its instances are pickled under redun's name, and pickles that name redun's class are read as the class
    declared last (a subclass on a higher floor replaces its base).

    Parameters
    ----------
    redun_module, redun_name : str
        Where redun has the class, e.g. `"redun.file"`, `"File"`.

    Returns
    -------
    Callable
        A class decorator that returns the class itself.
    """

    def declare(cls: T) -> T:
        alias = f"{cls.__name__}_{_NONCE}"
        setattr(sys.modules[cls.__module__], alias, cls)
        _alias_by_class[cls] = alias
        _renamed_global_by_class[cls] = (
            f"c{cls.__module__}\n{alias}\n".encode(),
            f"c{redun_module}\n{redun_name}\n".encode(),
        )
        _redun_name_by_class[cls] = (redun_module, redun_name)
        _class_by_redun_name[redun_module, redun_name] = cls
        return cls

    return declare


def get_redun_name(cls: type) -> tuple[str, str] | None:
    """Return the module and name of the redun class that a class stands for, or None."""
    return _redun_name_by_class.get(cls)


def get_stand_in(module: str, name: str) -> type | None:
    """Return aredun's class for a class of redun, or None."""
    return _class_by_redun_name.get((module, name))


class _Pickler(pickle.Pickler):
    """The C pickler, which notes the stand-ins that it meets."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=PICKLE_PROTOCOL)
        self.stand_ins: set[type] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            alias = _alias_by_class.get(obj)
            if alias is not None:
                self.stand_ins.add(obj)
                return alias
        elif _is_of_tblib(copyreg.dispatch_table.get(type(obj))):
            return obj.__reduce_ex__(PICKLE_PROTOCOL)
        return NotImplemented


def _is_of_tblib(reduce: Any) -> bool:
    """Tell whether an error would be pickled with its traceback, and so have another hash in each place."""
    # Whoever imports dask.distributed has tblib pickle all errors of the process.
    return reduce is not None and getattr(reduce, "__module__", "").startswith("tblib")


class _YieldingPickler(_Pickler):
    """Lets other threads run in between: the C pickler asks it about each object, and would not otherwise."""

    def persistent_id(self, obj: Any) -> None:
        """Pickle every object as it is."""


class _Unpickler(pickle.Unpickler):
    """The C unpickler, which reads redun's classes as aredun's."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        stand_in = _class_by_redun_name.get((module_name, global_name))
        if stand_in is not None:
            return stand_in
        try:
            return super().find_class(module_name, global_name)
        except (ImportError, AttributeError) as error:
            raise InvalidValueError(
                f"cannot read a stored value: {module_name}.{global_name} cannot be imported ({error})"
            ) from error


class _Slices(io.IOBase):
    """Bytes as a file: each call lets another thread run, which reading from memory never does."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def peek(self, size: int) -> bytes:
        # The unpickler asks for as much as it can use, `readline` for one byte at least.
        return self._rest[: max(size, _NAME_SIZE)].tobytes()

    def read(self, size: int) -> bytes:
        piece, self._rest = self._rest[:size].tobytes(), self._rest[size:]
        return piece

    def readinto(self, target: Any) -> int:
        count = min(len(target), len(self._rest))
        for first in range(0, count, _SLICED_SIZE):
            last = min(count, first + _SLICED_SIZE)
            target[first:last] = self._rest[first:last]
        self._rest = self._rest[count:]
        return count


def pickle_dumps(value: Any) -> bytes:
    """
    Pickle a value to the bytes that redun would store (mirrors redun's `pickle_dumps`).

    Parameters
    ----------
    value : Any
        Any picklable value. Blocks for as long as pickling takes.

    Returns
    -------
    bytes
        A pickle of protocol 3, the same as redun's for builtins and, name for name, for every class of
        redun that aredun has.
    """
    if type(value) in _PLAIN_TYPES:
        return pickle.dumps(value, protocol=PICKLE_PROTOCOL)
    buffer = io.BytesIO()
    pickler = _YieldingPickler(buffer) if is_long(value) else _Pickler(buffer)
    pickler.dump(value)
    data = buffer.getvalue()
    for stand_in in pickler.stand_ins:
        data = data.replace(*_renamed_global_by_class[stand_in])
    return data


def pickle_loads(data: bytes) -> Any:
    """
    Unpickle a stored value for real, importing what it names (mirrors redun's `pickle_loads`).

    Only for values that a workflow asked for: to show a value, use `preview_value`.

    Raises
    ------
    InvalidValueError
        If the bytes are no complete pickle, name something that cannot be imported, or hold what a class of
        today does not take (many errors cannot be made again from what pickle keeps of them).
    """
    try:
        source: Any = io.BytesIO(data) if len(data) < _SLICED_SIZE else _Slices(data)
        return _Unpickler(source).load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise InvalidValueError(f"cannot read a stored value: its pickle is damaged ({error})") from error
    except (InvalidValueError, MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise InvalidValueError(f"cannot read a stored value: {type(error).__name__}: {error}") from error
