"""The type registry and the two roots of all value types: `Value` and `ProxyValue`.

Both names are redun's; the table of values is the `Value` of `aredun.models`.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, ClassVar, cast

from aredun.errors import InvalidValueError, UnknownTypeError
from aredun.formats.hashing import hash_tag_bytes
from aredun.values.nested import SCALARS, iter_nested_value
from aredun.values.pickling import (
    MIME_TYPE_PICKLE,
    get_redun_name,
    get_stand_in,
    pickle_dumps,
    pickle_loads,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a foreign class (redun's own Value) must offer to be taken for a value as it is.
_VALUE_DUCK_TYPE = (
    "type_name",
    "get_hash",
    "get_serialization_format",
    "serialize",
    "iter_subvalues",
    "is_valid",
)


def get_raw_type_name(raw_type: type) -> str:
    """Name a Python type as redun does, `module.name`; a stand-in has the name of redun's class."""
    redun_name = get_redun_name(raw_type)
    module, name = redun_name or (raw_type.__module__, raw_type.__name__)
    return f"{module}.{name}"


@functools.lru_cache(maxsize=4096)
def is_value_type(raw_type: type) -> bool:
    """Tell whether a class is a value type, aredun's or redun's (by what it offers, not by what it is)."""
    return issubclass(raw_type, Value) or all(hasattr(raw_type, name) for name in _VALUE_DUCK_TYPE)


def is_value(value: Any) -> bool:
    """Tell whether an object is a value itself, aredun's or redun's, not one that needs a proxy."""
    kind: Any = type(value)
    return is_value_type(kind)


class TypeRegistry:
    """
    The value types that are known, and the way from any Python value to its type's methods.

    Mirrors redun's `TypeRegistry`, and either can stand in for the other. Values of redun's own classes
    are taken as they are.
    """

    def __init__(self) -> None:
        self._type_by_name: dict[str, type[Value]] = {}
        self._proxy_by_raw_type: dict[Any, type[ProxyValue]] = {}
        self._handler_by_raw_type: dict[type, type[Value] | None] = {}

    def register(self, value_type: type[Value]) -> None:
        """Make a value type known; `Value` subclasses do so by being defined.

        Parameters
        ----------
        value_type : type[Value]
            The type; a later one with the same `type_name`, or a proxy for the same raw type, replaces it.

        Raises
        ------
        UnknownTypeError
            If the type's `type_name` is no text.
        """
        raw_type = getattr(value_type, "type", None)
        if getattr(value_type, "proxy", False) and raw_type is not None:
            self._proxy_by_raw_type[raw_type] = cast("type[ProxyValue]", value_type)
        if not isinstance(value_type.type_name, str):
            raise UnknownTypeError(f"cannot register {value_type!r}: its type_name must be a str")
        self._type_by_name[value_type.type_name] = value_type
        self._handler_by_raw_type.clear()

    def _get_handler(self, raw_type: type) -> type[Value] | None:
        """Find the class that handles values of a raw type: a proxy, the type itself, or None for neither."""
        try:
            return self._handler_by_raw_type[raw_type]
        except KeyError:
            own = raw_type if is_value_type(raw_type) else None
            proxies = map(self._proxy_by_raw_type.get, raw_type.__mro__)
            handler = cast("type[Value] | None", next(filter(None, proxies), own))
            self._handler_by_raw_type[raw_type] = handler
            return handler

    def get_value(self, raw_value: Any) -> Value:
        """Wrap a Python value so that it has the methods of a `Value`.

        Parameters
        ----------
        raw_value : Any
            Any Python value.

        Returns
        -------
        Value
            The value itself if it is one, else the proxy of its type.
        """
        raw_type = type(raw_value)
        handler = self._get_handler(raw_type)
        if handler is None:
            return ProxyValue(raw_value)
        if handler is raw_type:
            return cast("Value", raw_value)
        return handler(raw_value)

    def get_type(self, raw_type: type, use_default: bool = True) -> type[Value] | None:
        """Return the value type for a raw type.

        Parameters
        ----------
        raw_type : type
            Any Python type.
        use_default : bool
            Whether a type without one gets `ProxyValue`; else it gets None.

        Returns
        -------
        type[Value] or None
            The proxy of the type or of its nearest base that has one, or the type itself if it is a
            `Value`.
        """
        handler = self._get_handler(raw_type) if isinstance(raw_type, type) else None
        return handler or (ProxyValue if use_default else None)

    def get_type_name(self, raw_type: type) -> str:
        """Name a raw type as the column `value.type` has it.

        Parameters
        ----------
        raw_type : type
            Any Python type.

        Returns
        -------
        str
            The `type_name` of its value type; without one, its module and name.
        """
        value_type = self.get_type(raw_type, use_default=False)
        return cast("str", value_type.type_name) if value_type else get_raw_type_name(raw_type)

    def parse_type_name(self, type_name: str) -> type:
        """Find the type that a name stands for, importing its module if need be.

        Parameters
        ----------
        type_name : str
            As the column `value.type` has it.

        Returns
        -------
        type
            The value type registered under the name, or the class that it leads to.

        Raises
        ------
        UnknownTypeError
            If the name is neither registered nor importable.
        """
        if type_name == "builtins.NoneType":
            return type(None)
        value_type = self._type_by_name.get(type_name)
        if value_type is not None:
            return value_type
        module_name, _, raw_name = type_name.rpartition(".")
        stand_in = get_stand_in(module_name, raw_name)
        if stand_in is not None:
            return stand_in
        try:
            return cast("type", importlib.import_module(module_name).__dict__[raw_name])
        except (ValueError, ImportError, KeyError) as error:
            raise UnknownTypeError(
                f"unknown type {type_name!r}: neither a registered type name nor an importable module.Class"
            ) from error

    def is_valid(self, value: Any) -> bool:
        """Tell whether a cached value may still be used.

        A `File` looks at its file, which blocks.

        Parameters
        ----------
        value : Any
            Any Python value.

        Returns
        -------
        bool
            What the value's own `is_valid` says.
        """
        return self.get_value(value).is_valid()

    def is_valid_nested(self, nested_value: Any) -> bool:
        """Tell whether all leaves of a nested value may still be used; blocks as `is_valid` does.

        Parameters
        ----------
        nested_value : Any
            Values in lists, tuples, sets, dicts, named tuples and dataclasses.

        Returns
        -------
        bool
            True if every leaf is valid.
        """
        return all(self.is_valid(leaf) for leaf in iter_nested_value(nested_value))

    def get_hash(self, value: Any, data: bytes | None = None) -> str:
        """Hash a value by its type's recipe.

        Parameters
        ----------
        value : Any
            Any Python value.
        data : bytes, optional
            The value's serialization, where it is at hand; saves pickling a plain value once more. Types
            with recipes of their own do not look at it, as in redun.

        Returns
        -------
        str
            40 hexadecimal digits.
        """
        if data is not None and self._get_handler(type(value)) is None:
            return hash_tag_bytes("Value", data)
        return self.get_value(value).get_hash()

    def get_serialization_format(self, value: Any) -> str:
        """Return the MIME type that a value is stored in.

        Parameters
        ----------
        value : Any
            Any Python value.

        Returns
        -------
        str
            A MIME type.
        """
        return self.get_value(value).get_serialization_format()

    def serialize(self, value: Any) -> bytes:
        """Serialize a value to the bytes that are stored.

        Parameters
        ----------
        value : Any
            Any Python value.

        Returns
        -------
        bytes
            A pickle, unless the type stores something else.
        """
        return self.get_value(value).serialize()

    def deserialize(self, type_name: str, data: bytes) -> Any:
        """Read a stored value back for real, importing what it names.

        Parameters
        ----------
        type_name : str
            As the column `value.type` has it.
        data : bytes
            What `serialize` made.

        Returns
        -------
        Any
            The value.

        Raises
        ------
        InvalidValueError
            If the bytes are damaged, or name a module or class that cannot be imported.
        """
        try:
            raw_type = self.parse_type_name(type_name)
        except UnknownTypeError:
            raw_type = ProxyValue
        value_type = cast("type[Value]", self.get_type(raw_type))
        try:
            return value_type.deserialize(raw_type, data)
        except ModuleNotFoundError as error:
            raise InvalidValueError(f"cannot read a stored {type_name}: {error}") from error

    def preprocess(self, raw_value: Any, preprocess_args: dict[str, Any]) -> Any:
        """Prepare a value to be passed to a task.

        Parameters
        ----------
        raw_value : Any
            Any Python value.
        preprocess_args : dict of str to Any
            As for `Value.preprocess`.

        Returns
        -------
        Any
            What the task gets in its place.
        """
        return self.get_value(raw_value).preprocess(preprocess_args)

    def postprocess(self, raw_value: Any, postprocess_args: dict[str, Any]) -> Any:
        """Finish a value that a task returned.

        Parameters
        ----------
        raw_value : Any
            Any Python value.
        postprocess_args : dict of str to Any
            As for `Value.postprocess`.

        Returns
        -------
        Any
            What is recorded in its place.
        """
        return self.get_value(raw_value).postprocess(postprocess_args)

    def parse_arg(self, raw_type: type, arg: str) -> Any:
        """Read a command-line argument as a value of a type.

        Parameters
        ----------
        raw_type : type
            The type that the parameter is annotated with.
        arg : str
            The argument as it was typed.

        Returns
        -------
        Any
            A value of the type.

        Raises
        ------
        ValueError
            If the text does not fit the type.
        """
        value_type = self.get_type(raw_type, use_default=False)
        return value_type.parse_arg(raw_type, arg) if value_type else raw_type(arg)

    def iter_subvalues(self, raw_value: Any) -> Iterator[Value]:
        """Yield the values that a value contains and that are recorded as such.

        Parameters
        ----------
        raw_value : Any
            Any Python value.

        Returns
        -------
        Iterator of Value
            In redun's order: each leaf is followed by its own subvalues.
        """
        return self.get_value(raw_value).iter_subvalues()


_type_registry = TypeRegistry()


def get_type_registry() -> TypeRegistry:
    """Return the registry of aredun's value types (mirrors redun's `get_type_registry`).

    Returns
    -------
    TypeRegistry
        One and the same for the whole process.
    """
    return _type_registry


class MetaValue(type):
    """Names and registers each value type as it is defined (mirrors redun's `MetaValue`)."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        if not namespace.get("type_name"):
            cls.type_name = get_raw_type_name(namespace.get("type") or cls)
        if getattr(cls, "register", True):
            get_type_registry().register(cast("type[Value]", cls))


class Value(metaclass=MetaValue):
    """Root of the types that say how they are hashed, stored and checked (mirrors redun's `Value`).

    A subclass gives `type_name` (by default its module and name), `__getstate__` and `__setstate__`, and
    overrides what differs from pickling. Its instances are pickled under the subclass's own name.

    Parameters
    ----------
    *args, **kwargs : Any
        Taken and left alone: what a subclass makes of them is its own affair.
    """

    type_name: ClassVar[str | None] = "redun.value.Value"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def is_valid(self) -> bool:
        """Tell whether a value from the cache may still be used.

        It may be called often, and may block.

        Returns
        -------
        bool
            True unless a subclass looks at something outside.
        """
        return True

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the value.

        Parameters
        ----------
        data : bytes, optional
            Its serialization if that is at hand.

        Returns
        -------
        str
            40 hexadecimal digits.
        """
        return hash_tag_bytes("Value", pickle_dumps(self) if data is None else data)

    def get_serialization_format(self) -> str:
        """Return what `serialize` makes.

        Returns
        -------
        str
            A MIME type: that of pickles.
        """
        return MIME_TYPE_PICKLE

    def serialize(self) -> bytes:
        """Serialize the value to the bytes that are stored.

        Returns
        -------
        bytes
            A pickle, unless a subclass stores something else.
        """
        return pickle_dumps(self)

    @classmethod
    def deserialize(cls, raw_type: type, data: bytes) -> Any:
        """Read stored bytes back.

        Parameters
        ----------
        raw_type : type
            What the value's type name stands for.
        data : bytes
            What `serialize` made.

        Returns
        -------
        Any
            The value.
        """
        return pickle_loads(data)

    def preprocess(self, preprocess_args: dict[str, Any]) -> Any:
        """Prepare the value to be passed to a task.

        Parameters
        ----------
        preprocess_args : dict of str to Any
            What is known of the call: `call_order`, which counts the calls of one job that take the same
            value, where it is a `Handle`.

        Returns
        -------
        Any
            What the task gets in this value's place: by default the value itself.
        """
        return self

    def postprocess(self, postprocess_args: dict[str, Any]) -> Any:
        """Finish the value that a task returned.

        Parameters
        ----------
        postprocess_args : dict of str to Any
            What is known of the call: its `pre_call_hash`, the hash of the task and its arguments.

        Returns
        -------
        Any
            What is recorded in this value's place: by default the value itself.
        """
        return self

    @classmethod
    def parse_arg(cls, raw_type: type, arg: str) -> Any:
        """Read a command-line argument.

        Parameters
        ----------
        raw_type : type
            The type that the parameter is annotated with.
        arg : str
            The argument as it was typed.

        Returns
        -------
        Any
            By default an instance, the argument being all that its constructor gets.
        """
        return cls(arg)

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the values within this one that are recorded as such.

        Returns
        -------
        Iterator of Value
            By default over none.
        """
        return iter(())


class StoredAttributes:
    """A mixin for values: what is pickled is some attributes, in a fixed order and under redun's names."""

    _stored: ClassVar[dict[str, str]] = {}
    """The attributes, by the names that they are stored under."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, attribute) for name, attribute in self._stored.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, attribute in self._stored.items():
            setattr(self, attribute, state[name])


class ProxyValue(Value):
    """Root of the types that handle values of a raw Python type (mirrors redun's `ProxyValue`).

    A subclass names the raw type as `type`; it is found for subclasses of the raw type too.

    Parameters
    ----------
    instance : Any
        The raw value.
    """

    type_name = "redun.value.ProxyValue"
    proxy = True
    type: Any = None

    def __init__(self, instance: Any) -> None:
        self.instance = instance

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the raw value by its pickle."""
        return hash_tag_bytes("Value", pickle_dumps(self.instance) if data is None else data)

    def serialize(self) -> bytes:
        """Pickle the raw value."""
        return pickle_dumps(self.instance)

    def preprocess(self, preprocess_args: dict[str, Any]) -> Any:
        """Return the raw value."""
        return self.instance

    def postprocess(self, postprocess_args: dict[str, Any]) -> Any:
        """Return the raw value."""
        return self.instance

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the values among the leaves of the raw value, each followed by its own subvalues."""
        for leaf in iter_nested_value(self.instance, SCALARS):
            if leaf is not self.instance and is_value(leaf):
                yield leaf
                yield from leaf.iter_subvalues()
