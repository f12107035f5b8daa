"""The few objects that a preview makes for real: Python's own data, from arguments that are checked first."""

from __future__ import annotations

import datetime
import decimal
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aredun.values.previews.stubs import ENUMS, Global, OpaqueKey, PreviewZone, Stub

if TYPE_CHECKING:
    from collections.abc import Callable

    Builder = Callable[[tuple[Any, ...]], Any]

_MAX_KEY_NODES = 1000
_MAX_KEY_BITS = 61
_MAX_DIGITS = 1000
_PLAIN_KEYS = frozenset({str, bytes, bool, float, type(None), Stub, Global, OpaqueKey})
_OTHER_KEYS = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, complex}
)


def make_dict_key(value: Any) -> Any:
    """
    Make a value fit to be a key: one that can be hashed in no time, or an `OpaqueKey` around it.

    Large integers are wrapped because their hashes can be made to collide, nested tuples because one of a
    few bytes can take for ever to hash.
    """
    return value if _is_plain_key(value) or _is_small_key(value) else OpaqueKey(value)


def _is_plain_key(value: Any) -> bool:
    """Tell whether a value has no parts and can be hashed in no time."""
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() <= _MAX_KEY_BITS)
    if kind not in _OTHER_KEYS:
        return kind in _PLAIN_KEYS
    try:
        hash(value)
    except (TypeError, ValueError, ArithmeticError):
        return False
    return True


def _is_small_key(value: Any) -> bool:
    """Tell whether a tuple or frozenset has few enough nodes, all of them plain."""
    count = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) in (tuple, frozenset):
            count += len(item)
            stack += item if count <= _MAX_KEY_NODES else ()
        elif not _is_plain_key(item):
            return False
        if count > _MAX_KEY_NODES:
            return False
    return True


def _get_bytes(value: Any, size: int | None = None) -> bytes:
    """Return bytes, which old pickles have as text, of an expected size."""
    data = value.encode("latin1") if isinstance(value, str) else value
    if not isinstance(data, bytes) or (size is not None and len(data) != size):
        raise ValueError("not the bytes that were expected")
    return data


def _get_zone(args: tuple[Any, ...]) -> datetime.tzinfo | None:
    if not args or args[0] is None or isinstance(args[0], datetime.tzinfo):
        return args[0] if args else None
    if type(args[0]) is not Stub:
        raise TypeError("not a time zone")
    return PreviewZone(args[0])


def _build_from_bytes(kind: type[Any], size: int) -> Builder:
    """Return what reads a date or time from the bytes that it is pickled as."""

    def build(args: tuple[Any, ...]) -> Any:
        zone = [_get_zone(args[1:])] if args[1:] else []
        # Of the bytes the constructor checks the month alone; `replace` checks all that comes of them.
        return kind(_get_bytes(args[0], size), *zone).replace()

    return build


def _build_decimal(args: tuple[Any, ...]) -> decimal.Decimal:
    if len(args) != 1 or not isinstance(args[0], str) or len(args[0]) > _MAX_DIGITS:
        raise ValueError("not the text of a decimal")
    return decimal.Decimal(args[0])


def _build_complex(args: tuple[Any, ...]) -> complex:
    real, imaginary = args
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise TypeError("not the parts of a complex number")
    return complex(real, imaginary)


def _build_range(args: tuple[Any, ...]) -> range:
    if not all(type(arg) is int and arg.bit_length() < 64 for arg in args):
        raise ValueError("not the bounds of a range")
    return range(*args)


def _build_bytes(args: tuple[Any, ...]) -> bytes:
    if args and (not isinstance(args[0], str) or args[1:] not in (("latin1",), ("latin-1",))):
        raise TypeError("not bytes as an old pickle has them")
    return args[0].encode("latin1") if args else b""


def _get_members(args: tuple[Any, ...]) -> list[Any]:
    if not args:
        return []
    if len(args) > 1 or type(args[0]) not in (list, tuple, set, frozenset):
        raise TypeError("not the members of a set")
    return [make_dict_key(item) for item in args[0]]


def _build_ordered_dict(args: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    if args and type(args[0]) is not list:
        raise TypeError("not the items of an OrderedDict")
    return OrderedDict((make_dict_key(key), value) for key, value in (args[0] if args else ()))


def _build_attribute(args: tuple[Any, ...]) -> Global | Stub:
    owner, attribute = args
    if type(owner) is not Global or not isinstance(attribute, str):
        raise TypeError("not an attribute of a class")
    if owner in ENUMS and attribute in ENUMS[owner].__members__:
        # Pickled by name, as Python 3.11 did until 3.11.4.
        return Stub(owner, (ENUMS[owner][attribute].value,))
    return Global(owner.module, f"{owner.name}.{attribute}")


def _build_by_newobj_ex(args: tuple[Any, ...]) -> Any:
    target, positional, keywords = args
    value = build_object(target, tuple(positional))
    if type(value) is Stub and isinstance(keywords, dict):
        value._preview_state.update((str(key), item) for key, item in keywords.items())
    return value


_BUILDERS: dict[tuple[str, str], Builder] = {
    ("datetime", "date"): _build_from_bytes(datetime.date, 4),
    ("datetime", "time"): _build_from_bytes(datetime.time, 6),
    ("datetime", "datetime"): _build_from_bytes(datetime.datetime, 10),
    ("datetime", "timedelta"): lambda args: datetime.timedelta(*args),
    ("datetime", "timezone"): lambda args: datetime.timezone(*args),
    ("decimal", "Decimal"): _build_decimal,
    ("collections", "OrderedDict"): _build_ordered_dict,
    ("builtins", "complex"): _build_complex,
    ("builtins", "range"): _build_range,
    ("builtins", "bytearray"): lambda args: bytearray(*map(_get_bytes, args[:1])),
    ("builtins", "bytes"): _build_bytes,
    ("builtins", "set"): lambda args: set(_get_members(args)),
    ("builtins", "frozenset"): lambda args: frozenset(_get_members(args)),
    ("builtins", "getattr"): _build_attribute,
    ("_codecs", "encode"): _build_bytes,
    ("copyreg", "__newobj__"): lambda args: build_object(args[0], args[1:]),
    ("copyreg", "__newobj_ex__"): _build_by_newobj_ex,
    ("copyreg", "_reconstructor"): lambda args: build_object(args[0], () if args[2] is None else args[2:]),
}


def copies_arguments(target: Any) -> bool:
    """Tell whether making an object of this class copies what it is made of."""
    return type(target) is not Global or target in _BUILDERS


def build_object(target: Any, args: tuple[Any, ...]) -> Any:
    """
    Make the preview of an object.

    Parameters
    ----------
    target : Any
        What the pickle would call: a `Global`, or anything at all in a hostile one.
    args : tuple
        What it would be called with.

    Returns
    -------
    Any
        Python's own data for the few types that are made for real, else a `Stub`.
    """
    if type(target) is not Global:
        return Stub(Global("", "call"), (target, *args))
    try:
        return _BUILDERS[target](args)
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError):
        return Stub(target, args)
