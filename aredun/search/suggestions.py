"""What somebody may have meant by an id or a name that fits no record."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.formats.spelling import MAX_NEAR, find_near, misspell_hash, spell_id
from aredun.formats.tag_syntax import is_storable_text
from aredun.models import Task
from aredun.search.records import PRIMARY_KEYS
from aredun.storage.reads import read_rows, read_scalars
from aredun.tables.column_types import starts_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.search.repository import Repository

# Fewer letters of a hash are like many of the ids there are.
_MIN_HASH = 6
# So many letters lead to few ids; the others are compared here.
_HEAD = 8
_MAX_IDS = 1_000
_MAX_NAMES = 5_000
_HASH = re.compile(rf"[0-9a-f-]{{{_MIN_HASH},40}}")


async def suggest(backend: Repository, text: str, types: Sequence[str]) -> list[str]:
    """
    Return what a text that fits no record is most like.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    text : str
        What was given.
    types : Sequence[str]
        The types of record that may be meant.

    Returns
    -------
    list of str
        At most three: full names of tasks, the nearest first, or `Job 3f2c...` for ids that are one letter
        off.
    """
    if not is_storable_text(text) or not spell_id(text):
        return []
    if "Task" in types:
        near = await suggest_task_names(backend, text)
        if near:
            return near
    hash_text = spell_id(text)[-1]
    return await _suggest_ids(backend, hash_text, types) if _HASH.fullmatch(hash_text) else []


async def suggest_task_names(backend: Repository, text: str) -> list[str]:
    """Return the full names of at most three recorded tasks that a name is most like, the nearest first."""
    names = sa.select(Task.fullname).distinct().limit(_MAX_NAMES)
    recorded = await read_scalars(backend.database, names)
    return await asyncio.to_thread(_choose_names, text.strip(), recorded)


def _choose_names(text: str, recorded: list[str]) -> list[str]:
    full_names: dict[str, list[str]] = {}
    for full_name in recorded:
        # Who writes no namespace is compared with names without theirs.
        name = full_name if "." in text else full_name.rpartition(".")[2]
        full_names.setdefault(name, []).append(full_name)
    near = find_near(text, full_names)
    return [full_name for name in near for full_name in sorted(full_names[name])][:MAX_NEAR]


async def _suggest_ids(backend: Repository, text: str, types: Sequence[str]) -> list[str]:
    beginnings = {text[:_HEAD], *misspell_hash(text[:_HEAD])}
    rows: list[Any] = []
    for name in types:
        key = PRIMARY_KEYS[name]
        begins = sa.or_(*(starts_with(key, beginning) for beginning in sorted(beginnings)))
        rows += await read_rows(
            backend.database, sa.select(sa.literal(name), key).where(begins).limit(_MAX_IDS)
        )
    meant = misspell_hash(text)
    lengths = range(len(text) - 1, len(text) + 2)
    # A task and the value that stands for it have one hash; the task comes first.
    near = {key: name for name, key in reversed(rows) if any(key[:length] in meant for length in lengths)}
    return [f"{near[key]} {key}" for key in sorted(near)][:MAX_NEAR]
