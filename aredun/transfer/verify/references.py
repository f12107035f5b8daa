"""Verification of references: whatever a row refers to is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from aredun.models import Base
from aredun.storage.reads import read_rows
from aredun.storage.record_rows import TABLES, select_column
from aredun.storage.rows import OWNERS, find_references

if TYPE_CHECKING:
    from aredun.transfer.verify.context import Context

# References between tables that are foreign keys, or ought to be: (table, column, table, column).
_REFERENCES: Final = tuple(
    (name, reference.column, reference.table, reference.key)
    for name, table in TABLES.items()
    for reference in find_references(table)
)
_CLASSES: Final = {each.class_.__tablename__: each.class_.__name__ for each in Base.registry.mappers}
# Rows that a repair deletes when what they refer to is missing: parts of a record, evaluations, which are a
# cache, and subtree tasks, since a set with one of them missing is worse than none.
_ORPHANS: Final = frozenset(
    {
        *((table, column) for table, column in OWNERS.items() if table not in ("handle_edge", "task")),
        ("call_subtree_task", "task_hash"),
        ("evaluation", "task_hash"),
        ("evaluation", "value_hash"),
    }
)


async def check_references(context: Context) -> None:
    """Check that whatever is referred to is there; in a repair, delete the rows whose owner is not."""
    for table, column, target, key in _REFERENCES:
        source = TABLES[table].alias("source")
        goal = TABLES[target].alias("goal")
        owner_column = OWNERS.get(table) or TABLES[table].primary_key.columns[0].name
        statement = (
            sa.select(source.c[owner_column], source.c[column])
            .outerjoin(goal, goal.c[key] == source.c[column])
            .where(source.c[column].is_not(None), goal.c[key].is_(None))
        )
        rows = await read_rows(context.database, statement)
        repaired = context.repair and (table, column) in _ORPHANS
        for owner, missing in rows:
            detail = f"its {column} {missing} is not among the {target.replace('_', ' ')}s"
            context.found(
                "dangling reference", f"{_name_kind(TABLES[table])} {owner}", detail, repaired=repaired
            )
        if repaired:
            await _delete(context, table, owner_column, {row[0] for row in rows})


def _name_kind(table: sa.Table) -> str:
    """Return the kind of record that a report blames for a bad row of a table: what owns it, or itself."""
    owner = OWNERS.get(table.name)
    # A file or a task has the key of the value that owns it, and is blamed itself.
    if owner is None or table.primary_key.columns.keys() == [owner]:
        return _CLASSES[table.name]
    return next(_CLASSES[each.table] for each in find_references(table) if each.column == owner)


async def _delete(context: Context, table: str, column: str, owners: set[str]) -> None:
    if table == "argument":
        arguments = select_column("argument", "arg_hash", "call_hash")
        (rows,) = await context.fetch(sorted(owners), arguments)
        await _delete(context, "argument_result", "arg_hash", {row.arg_hash for row in rows})
    await context.delete(TABLES[table].c[column], owners)
