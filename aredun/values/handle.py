"""Handles: values that stand for the state of an outside system as it passes through tasks.

`Handle` is what redun calls them; the table of their states is the `Handle` of `aredun.models`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aredun.formats.hashing import hash_kwargs, hash_positional_args, hash_struct
from aredun.values.base import Value, get_type_registry
from aredun.values.namespace import compute_namespace, join_fullname
from aredun.values.pickling import stands_for


@dataclass(eq=False, repr=False)
class HandleInfo:
    """
    What is recorded of a handle (mirrors redun's `Handle.HandleInfo`).

    Parameters
    ----------
    name, namespace : str
        Identify the handle; together they are its `fullname`.
    args, kwargs : tuple, dict
        The constructor's further arguments.
    class_name : str
        The handle type's `type_name`.
    call_hash : str
        Hash of the call that the handle came out of, or of the handle that it was forked from.
    hash : str, optional
        The handle's hash where it is known.
    key : str
        Tells forks of one handle apart.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    class_name: str
    namespace: str | None = None
    call_hash: str = ""
    hash: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        self.fullname = join_fullname(self.namespace, self.name)
        self.hash = self.hash or self.get_hash()
        self.is_recorded = False
        self.fork_parent: Handle | None = None

    def get_state(self) -> dict[str, Any]:
        """Return what is pickled, in redun's order."""
        names = ("name", "namespace", "args", "kwargs", "class_name", "call_hash", "key", "hash")
        return {name: getattr(self, name) for name in names}

    def get_hash(self) -> str:
        """Compute the hash: of the call that made the handle's state, or of the constructor's arguments."""
        if self.call_hash:
            return hash_struct(["Handle", self.fullname, "call_hash", self.key, self.call_hash])
        registry = get_type_registry()
        return hash_struct(
            [
                "Handle",
                self.fullname,
                "init",
                self.key,
                hash_positional_args(registry, self.args),
                hash_kwargs(registry, self.kwargs),
            ]
        )

    def update_hash(self) -> None:
        """Compute the hash anew."""
        self.hash = self.get_hash()

    def derive(self, handle: Handle, call_hash: str, key: str) -> Handle:
        """Copy a handle under a new call hash and key."""
        handle_class: Any = get_type_registry().parse_type_name(self.class_name)
        derived: Handle = handle_class.__new__(
            handle_class, self.name, *self.args, namespace=self.namespace, **self.kwargs
        )
        attributes = {name: item for name, item in handle.__dict__.items() if name != "__handle__"}
        derived.__dict__.update(attributes)
        derived.__handle__.call_hash = call_hash
        derived.__handle__.key = key
        derived.__handle__.update_hash()
        return derived


_Info = HandleInfo


@stands_for("redun.handle", "Handle")
class Handle(Value):
    """
    A value that stands for the state of an outside system, say a database (mirrors redun's `Handle`).

    A task that returns a handle brings it into a new state, which is identified by the call. A subclass takes
    `name` first in its constructor and may set `self.instance`, which unknown attributes are looked up on.

    Parameters
    ----------
    name : str
        Identifies the handle within its namespace.
    *args, **kwargs : Any
        The constructor's further arguments; they are stored and hashed.
    namespace : str, optional
        By default the namespace of the handle's class.
    """

    type_name = "redun.Handle"
    HandleInfo = HandleInfo
    __handle__: _Info

    def __new__(
        cls, name: str | None = None, *args: Any, namespace: str | None = None, **kwargs: Any
    ) -> Handle:
        """Make the handle's `__handle__`, so that no subclass can forget to; unpickling gives no name."""
        handle = super().__new__(cls)
        if name is not None:
            handle.__handle__ = cls.HandleInfo(
                name=name,
                namespace=compute_namespace(cls, namespace),
                args=args,
                kwargs=kwargs,
                class_name=cls.type_name or "",
            )
        return handle

    def __repr__(self) -> str:
        info = self.__handle__
        return f"{info.class_name}(fullname={info.fullname}, hash={info.hash[:8]})"

    def __getattr__(self, attr: str) -> Any:
        if "instance" in self.__dict__:
            return getattr(self.instance, attr)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {attr!r}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__handle__.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__handle__ = self.HandleInfo(**state)
        self.__handle__.is_recorded = True
        self.__class__.__init__(self, state["name"], *state["args"], **state["kwargs"])

    def apply_call(self, call_hash: str) -> Handle:
        """Return the handle in the state that a call brought it into.

        Parameters
        ----------
        call_hash : str
            The call, as it is hashed before its result is known.

        Returns
        -------
        Handle
            A copy in the new state.
        """
        return self.__handle__.derive(self, call_hash, "")

    def fork(self, key: str) -> Handle:
        """Return a copy of the handle for one of several parallel tasks.

        Parameters
        ----------
        key : str
            Tells the copies apart.

        Returns
        -------
        Handle
            A copy whose state follows from this one's.
        """
        forked = self.__handle__.derive(self, self.__handle__.hash, key)
        forked.__handle__.fork_parent = self
        return forked

    def is_valid(self) -> bool:
        """
        Tell whether the handle's class still has the name that it was stored under.

        Whether the state has been rolled back is known to the database alone: for a value out of the cache,
        await the backend's `is_valid_handle` too.
        """
        return self.type_name == self.__handle__.class_name

    def get_hash(self, data: bytes | None = None) -> str:
        """Return the hash of the handle's state."""
        return self.__handle__.hash

    def preprocess(self, preprocess_args: dict[str, Any]) -> Handle:
        """Fork the handle as it goes into a task; `call_order` tells the task's calls apart."""
        return self.fork(self.__handle__.key or str(preprocess_args["call_order"]))

    def postprocess(self, postprocess_args: dict[str, Any]) -> Handle:
        """Bring the handle into a new state as it comes out of a task, after `pre_call_hash`."""
        return self.apply_call(postprocess_args["pre_call_hash"])
