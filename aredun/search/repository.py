"""What searches need of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.config import BackendConfig
    from aredun.storage.core import Database


class Repository(Protocol):
    """What searches need of a backend: `RedunBackendDb` has it."""

    @property
    def config(self) -> BackendConfig: ...

    @property
    def database(self) -> Database: ...

    @property
    def type_registry(self) -> Any: ...

    @property
    def entities(self) -> Any: ...

    async def get_previews(self, value_hashes: Iterable[str]) -> dict[str, Any]: ...
