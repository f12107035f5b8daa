"""Value types for Python's own types that redun treats specially."""

from __future__ import annotations

import datetime
import enum
import importlib
import inspect
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from aredun.errors import InvalidValueError
from aredun.formats.hashing import hash_bytes, hash_struct, hash_tag_bytes
from aredun.values.base import ProxyValue, StoredAttributes
from aredun.values.file import File
from aredun.values.pickling import pickle_dumps, pickle_loads, stands_for

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

_DEF_LINE = re.compile(r" *(async )?def ")


class Bool(ProxyValue):
    """Booleans: `true` and `false` on a command line (mirrors redun's `Bool`)."""

    type = bool
    type_name = "builtins.bool"

    @classmethod
    def parse_arg(cls, raw_type: builtins.type, arg: str) -> bool:
        """Read `true` or `false`, in any case."""
        try:
            return {"true": True, "false": False}[arg.lower()]
        except KeyError:
            raise ValueError(f"unknown bool {arg!r}: use 'true' or 'false'") from None


class Set(ProxyValue):
    """Sets: hashed in sorted order (mirrors redun's `Set`)."""

    type = set
    type_name = "builtins.set"

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the sorted items; their pickle depends on no hash seed, unlike the set's."""
        return hash_tag_bytes("Value.set", pickle_dumps(sorted(self.instance)))


class EnumType(ProxyValue):
    """Enumerations: members by name on a command line (mirrors redun's `EnumType`)."""

    type = enum.Enum
    type_name = "enum.Enum"

    @classmethod
    def parse_arg(cls, raw_type: builtins.type, arg: str) -> Any:
        """Read `MEMBER` or `Enumeration.MEMBER`."""
        members: dict[str, Any] = {item.name: item for item in raw_type}  # type: ignore[attr-defined]  # an Enum class iterates
        enum_name, dot, member = arg.partition(".")
        if not dot:
            enum_name, member = raw_type.__name__, arg
        if enum_name != raw_type.__name__ or member not in members:
            raise ValueError(f"{member} is not a valid {raw_type.__name__}: use one of {', '.join(members)}")
        return members[member]


class DatetimeType(ProxyValue):
    """Date-times: any usual notation on a command line (mirrors redun's `DatetimeType`)."""

    type = datetime.datetime
    type_name = "datetime.datetime"

    @classmethod
    def parse_arg(cls, raw_type: builtins.type, arg: str) -> datetime.datetime:
        """Read a date-time in any notation that `dateutil` reads."""
        # No run without such an argument waits for this import, which takes 6 ms.
        from dateutil.parser import parse

        return parse(arg)


def get_func_source(func: Callable[..., Any]) -> str:
    """
    Return a function's source as its hash sees it (mirrors redun's `get_func_source`).

    The decorators of a plain function are left out; redun keeps those of an `async def`, and so does aredun.

    Parameters
    ----------
    func : Callable
        A function that was defined in a file or another place that `inspect` finds.

    Raises
    ------
    OSError
        If the source cannot be found.
    """
    source = inspect.getsource(func)
    lines = source.split("\n")
    for index, line in enumerate(lines):
        match = _DEF_LINE.match(line)
        if match:
            # redun would skip an async def in favour of a function defined within it, and hash that alone.
            return source if match.group(1) else "\n".join(lines[index:])
    return source


def make_unknown_function(func_name: str) -> Callable[..., NoReturn]:
    """Return a function in place of one that cannot be imported any more; calling it raises ValueError."""

    def unknown_function(*args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(f"function {func_name!r} cannot be found: it is no longer defined or importable")

    unknown_function.unknown_function = True  # type: ignore[attr-defined]  # the mark that redun sets too
    return unknown_function


def is_unknown_function(func: Any) -> bool:
    """Tell whether a function stands for one that cannot be imported."""
    return getattr(func, "unknown_function", False) is True


@stands_for("redun.value", "Function")
class Function(StoredAttributes, ProxyValue):
    """
    Plain functions: hashed by name and source, stored by name (mirrors redun's `Function`).

    Raises
    ------
    InvalidValueError
        If the function is not defined at the top level of a module.
    """

    type = type(lambda: None)
    type_name = "builtins.function"
    _stored: ClassVar[dict[str, str]] = {"hash": "_hash", "module": "module", "name": "name"}

    def __init__(self, instance: Callable[..., Any]) -> None:
        super().__init__(instance)
        self.module: str = instance.__module__
        self.name: str = instance.__name__
        self._hash = self._calc_hash()
        if not is_unknown_function(instance) and "<locals>" in instance.__qualname__:
            raise InvalidValueError(
                f"function {instance.__qualname__} is defined within another: only functions of a module's "
                "top level can be arguments or results"
            )

    def __repr__(self) -> str:
        return f"<function {self.fullname}>"

    @property
    def fullname(self) -> str:
        """The function's module and name."""
        return f"{self.module}.{self.name}"

    def _calc_hash(self) -> str:
        return hash_struct(
            ["Value.function", self.fullname.encode(), "source", get_func_source(self.instance)]
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        try:
            self.instance = getattr(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError):
            self.instance = make_unknown_function(self.fullname)

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the function's full name and source."""
        return self._hash

    def is_valid(self) -> bool:
        """Tell whether the function was found again."""
        return not is_unknown_function(self.instance)

    def serialize(self) -> bytes:
        """Pickle the function's name and hash."""
        return pickle_dumps(self)

    @classmethod
    def deserialize(cls, raw_type: Any, data: bytes) -> Any:
        """Return the function that is defined under the stored name now, or one that stands for it."""
        return pickle_loads(data).instance

    @classmethod
    def parse_arg(cls, raw_type: builtins.type, arg: str) -> Any:
        """Read `module.function`."""
        module_name, dot, func_name = arg.rpartition(".")
        if not dot:
            raise ValueError(f"unexpected format for function name {arg!r}: use module.function")
        try:
            return getattr(importlib.import_module(module_name), func_name)
        except (ImportError, AttributeError):
            raise ValueError(f"function not found: {arg}") from None


@stands_for("redun.value", "FileCache")
class FileCache(ProxyValue):
    """
    Root of the types whose values are stored in files under `base_path` (mirrors redun's `FileCache`).

    A subclass names the raw type as `type`, may set `base_path` (a local path or any URL that `File` takes)
    and override `_serialize` and `_deserialize`. The repository has the file's path alone. Blocks.
    """

    type_name = "redun.value.FileCache"
    base_path = "."

    def _serialize(self) -> bytes:
        return pickle_dumps(self.instance)

    @classmethod
    def _deserialize(cls, data: bytes) -> Any:
        return pickle_loads(data)

    def serialize(self) -> bytes:
        """Write the value to its file, and return the file's path."""
        data = self._serialize()
        path = os.path.join(self.base_path, hash_bytes(data))
        File(path).write(data, mode="wb")
        return path.encode()

    @classmethod
    def deserialize(cls, raw_type: builtins.type, data: bytes) -> Any:
        """
        Read the value from its file.

        Raises
        ------
        InvalidValueError
            If the file has gone.
        """
        file = File(data.decode())
        if not file.exists():
            raise InvalidValueError(f"the file of a stored value has gone: {file.path}")
        return cls._deserialize(file.read("rb"))
