"""The provenance backend of asyncio Python: redun's call graph, recorded, cached, walked and synced.

Names are imported when they are first asked for: a workflow that needs `task` and `File` does not have to
wait for the database library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.dataflow import walk_dataflow
    from aredun.errors import (
        AredunError,
        InvalidRecordError,
        InvalidValueError,
        RedunDatabaseError,
        RedunVersionError,
        UnknownTypeError,
        UsageError,
    )
    from aredun.query import CallGraphQuery
    from aredun.scheduler import Scheduler
    from aredun.sync import sync_records
    from aredun.tables.column_types import TagEntity
    from aredun.values import File, Handle
    from aredun.workflow.scripts import script
    from aredun.workflow.tasks import CacheCheckValid, CacheResult, CacheScope, Call, task

__all__ = [
    "AredunError",
    "CacheCheckValid",
    "CacheResult",
    "CacheScope",
    "Call",
    "CallGraphQuery",
    "File",
    "Handle",
    "InvalidRecordError",
    "InvalidValueError",
    "RedunBackendDb",
    "RedunDatabaseError",
    "RedunVersionError",
    "Scheduler",
    "TagEntity",
    "UnknownTypeError",
    "UsageError",
    "script",
    "sync_records",
    "task",
    "walk_dataflow",
]

_MODULES = {
    "CacheCheckValid": "aredun.workflow.tasks",
    "CacheResult": "aredun.workflow.tasks",
    "CacheScope": "aredun.workflow.tasks",
    "Call": "aredun.workflow.tasks",
    "CallGraphQuery": "aredun.query",
    "File": "aredun.values",
    "Handle": "aredun.values",
    "RedunBackendDb": "aredun.backend",
    "Scheduler": "aredun.scheduler",
    "TagEntity": "aredun.tables.column_types",
    "script": "aredun.workflow.scripts",
    "sync_records": "aredun.sync",
    "task": "aredun.workflow.tasks",
    "walk_dataflow": "aredun.dataflow",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "aredun.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
